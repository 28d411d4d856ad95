//! What is found under the names of a piece of work, and whose it is. Only looks.

use crate::git::{Mirror, MirrorError};
use crate::model::work_name::{TRACE_DIRECTORY, WorkName};
use crate::sources::source::{Publication, Standing, TaskSource};
use crate::worker::story::{Failure, Story};

/// What is found under a name.
pub(super) enum Place {
    /// Nothing.
    Free,
    /// The branch of this work, at this commit.
    Pushed(String),
    /// This work, published, and the commit of its branch.
    Published(Publication, Option<String>),
}

impl<S: TaskSource> Story<'_, S> {
    /// Chooses the name of the work: the first that is this work's own, or nobody's. Both are looked
    /// at: what was published under the second stays published when the first becomes free.
    pub(super) async fn choose(&self) -> Result<(WorkName, Place), Failure> {
        let (source, work) = (self.source, &self.work);
        let (task_id, key) = (&work.request.task_id, &work.request.key);
        let names = [WorkName::first(task_id), WorkName::second(task_id, key)];
        let branches = names.each_ref().map(WorkName::branch);
        let tips = self
            .ask(move |mirror| Ok(mirror.remote_tips(branches.each_ref().map(String::as_str))?));
        let tips = tips.await?;
        let mut free = None;
        for (name, tip) in names.into_iter().zip(tips) {
            match (tip, source.standing(work, &name).await?) {
                (tip, Standing::Published(publication)) => {
                    return Ok((name, Place::Published(publication, tip)));
                }
                (Some(tip), standing) if self.owned(&name, &tip).await? => {
                    let place = match standing {
                        // By a person, who perhaps closed it since.
                        Standing::Taken(publication, _) => Place::Published(publication, Some(tip)),
                        Standing::Free | Standing::Published(_) => Place::Pushed(tip),
                    };
                    return Ok((name, place));
                }
                // Its branch is deleted.
                (None, Standing::Taken(publication, commit)) if self.was_owned(&commit).await? => {
                    return Ok((name, Place::Published(publication, None)));
                }
                (None, Standing::Free)
                    if free.is_none() && !self.base_has(name.trace_path()).await? =>
                {
                    free = Some(name);
                }
                _ => {}
            }
        }
        if let Some(publication) = source.earlier(work).await? {
            let name = WorkName::second(task_id, key);
            return Ok((name, Place::Published(publication, None)));
        }
        // The second name has no other owner; where it is taken, somebody has put something there.
        let name = free.ok_or_else(|| {
            Failure::refused("the branches that belong to this task hold something else")
        })?;
        Ok((name, Place::Free))
    }

    /// Refuses a base in which a trace has no place.
    pub(super) async fn check_trace(&self) -> Result<(), Failure> {
        if !self.base_has(TRACE_DIRECTORY.to_owned()).await? {
            return Ok(());
        }
        Err(Failure::refused(format!(
            "the branch `{}` has a file `{TRACE_DIRECTORY}`, where the directory of the traces has \
             to be: it needs another name",
            self.base.branch
        )))
    }

    async fn base_has(&self, file: String) -> Result<bool, Failure> {
        let commit = self.base.commit.clone();
        self.ask(move |mirror| Ok(mirror.file(&commit, &file)?.is_some()))
            .await
    }

    /// Whether a branch at the remote holds this work.
    pub(super) async fn owned(&self, name: &WorkName, tip: &str) -> Result<bool, Failure> {
        let (key, branch) = (self.work.request.key.clone(), name.branch());
        let (tip, base) = (tip.to_owned(), self.base.commit.clone());
        self.ask(move |mirror| {
            up_to_date(mirror, &branch, &tip)?;
            Ok(mirror.owner(&tip, &base)? == Some(key))
        })
        .await
    }

    /// Whether a commit, whose branch is gone, is of this work.
    async fn was_owned(&self, commit: &str) -> Result<bool, Failure> {
        let (key, commit) = (self.work.request.key.clone(), commit.to_owned());
        self.ask(move |mirror| {
            Ok(mirror.get(&commit)? && mirror.owner_of_merged(&commit)? == Some(key))
        })
        .await
    }

    /// The revision of the text that a branch of this work was made from, where it says so.
    pub(super) async fn made_from(
        &self,
        name: &WorkName,
        tip: &str,
    ) -> Result<Option<String>, Failure> {
        let branch = name.branch();
        let (tip, base) = (tip.to_owned(), self.base.commit.clone());
        let revision = self.ask(move |mirror| {
            up_to_date(mirror, &branch, &tip)?;
            Ok(mirror.revision(&tip, &base)?)
        });
        Ok(revision.await?.map(|revision| revision.to_string()))
    }
}

/// Makes sure that the mirror has a branch as it is at the remote: it may be younger than the last
/// fetch.
pub(super) fn up_to_date(mirror: &Mirror, branch: &str, tip: &str) -> Result<(), MirrorError> {
    if mirror.tip(branch)?.as_deref() != Some(tip) {
        mirror.fetch()?;
    }
    Ok(())
}
