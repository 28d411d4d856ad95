//! Records of work that a good run did and that was not published all the same.

use crate::model::ids::TaskName;
use crate::model::outcome::Outcome;
use crate::model::record::{Evidence, EvidenceSource, NotificationState, Record};
use crate::orchestrator::tell_by_outbox;
use crate::store::StoreError;
use crate::store::recorder::RunFolder;
use crate::worker::settings::WorkerSettings;

/// Records that the result of `run` was not published, and why; a person is told.
///
/// The run's own record is final and stays as it is: the agent did its work.
pub(super) fn unpublished(
    settings: &WorkerSettings,
    run: &Record,
    outcome: Outcome,
    reason: &str,
) -> Result<(), StoreError> {
    let now = settings.clock.now();
    let task: TaskName = run.task.parse().expect("it was read as a name");
    let agent = run.agent.parse().expect("it was read as a name");
    let folder = RunFolder::create(&settings.layout, &task, &agent, now)?;
    let mut record = Record::begun(&task, &agent, folder.run().run_id.clone(), now);
    record.outcome = outcome;
    record.exit_code = outcome.exit_code().map(i32::from);
    record.end_time = Some(now);
    record.elapsed = Some(std::time::Duration::ZERO);
    let reason = settings.redactor.text(reason);
    record.evidence = vec![
        Evidence::new(EvidenceSource::Policy, reason.clone()),
        Evidence::new(
            EvidenceSource::Runner,
            format!("{} ended well; what it left stays unpublished", run.path()),
        ),
    ];
    record.error = Some(reason);
    record.requires_commit = run.requires_commit;
    record.previous_run = Some(run.path());
    record.source.clone_from(&run.source);
    record.host.clone_from(&run.host);
    record.pid = Some(std::process::id());
    record.boot_id.clone_from(&run.boot_id);
    record.runner_version.clone_from(&run.runner_version);
    if outcome != Outcome::LostLease && settings.announce.is_some() {
        record.notification.state = NotificationState::Pending;
        let configuration = &run.notification.configuration;
        (record.notification.configuration).clone_from(configuration);
    }
    let announce = settings.announce.as_deref();
    let layout = &settings.layout;
    tell_by_outbox(&mut record, announce, layout, folder.run(), now)?;
    folder.finish(&record)
}
