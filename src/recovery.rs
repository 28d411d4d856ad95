//! Ends the runs whose runner died: their processes are killed, their records become `crashed`,
//! and they are told once.
//!
//! Costs nothing when there is none, and may itself be killed at any point: what is redone has the
//! same result.

use std::collections::BTreeMap;
use std::ffi::OsString;

use crate::isolation;
use crate::model::clock::Clock;
use crate::model::ids::RunPath;
use crate::model::record::{Evidence, EvidenceSource, Record};
use crate::model::task::Containment;
use crate::orchestrator::{self, Announce};
use crate::process::{containment, identity};
use crate::store::StoreError;
use crate::store::layout::Layout;
use crate::store::recovery::{Abandoned, abandoned};

/// Recovers every run whose runner died; gives their final records.
///
/// `inherited` is the environment that the runner itself was given.
pub fn recover(
    inherited: &BTreeMap<OsString, OsString>,
    layout: &Layout,
    announce: Option<&Announce<'_>>,
    clock: &dyn Clock,
) -> Result<Vec<Record>, StoreError> {
    let mut recovered = Vec::new();
    for Abandoned { folder, mut record } in abandoned(layout)? {
        kill_survivors(folder.run(), &mut record);
        isolation::recover(inherited, layout, folder.run(), &mut record);
        orchestrator::tell_by_outbox(&mut record, announce, layout, folder.run(), clock.now())?;
        tracing::info!(run = %folder.run(), "a run whose runner died is recorded as crashed");
        folder.finish(&record)?;
        recovered.push(record);
    }
    Ok(recovered)
}

/// Kills what is in the run's control group or carries its mark. After a reboot there is nothing to look for, and numbers of
/// the old boot mean other processes now.
fn kill_survivors(run: &RunPath, record: &mut Record) {
    let Some(pid) = record.pid.filter(|_| record.boot_id == identity::boot_id()) else {
        return;
    };
    let is_in_cgroup = record.containment.as_deref() == Some(Containment::Cgroup.as_str());
    let sweep = containment::kill_abandoned(is_in_cgroup, &orchestrator::marker(run, pid));
    record.survivors_killed = Some(sweep.killed);
    let mut note = |fact: String| {
        record
            .evidence
            .push(Evidence::new(EvidenceSource::Process, fact));
    };
    if sweep.killed > 0 {
        note(format!(
            "{} of its processes were still alive and were killed",
            sweep.killed
        ));
    }
    if !sweep.unkillable.is_empty() {
        note(format!("could not be killed: {:?}", sweep.unkillable));
    }
}
