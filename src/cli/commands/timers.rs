//! The timers of systemd that start this program: read from their files, since `systemctl --user`
//! answers only where the user's manager runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::schedule::is_ours;
use crate::cli::wiring::World;
use crate::config::settings::Settings;
use crate::schedule::units::{Timer, service_of, template_of};

/// The enabled timers of this user and of the machine whose service starts this program for this
/// configuration, by name.
pub(super) fn timers(world: &World, settings: &Settings) -> Vec<Timer> {
    let of_user = world.environment.user_directory();
    let of_user = of_user.map(|directory| directory.join("systemd/user"));
    let of_everybody = ["/etc/systemd/user", "/usr/lib/systemd/user"].map(PathBuf::from);
    let of_machine = ["/etc/systemd/system", "/usr/lib/systemd/system"].map(PathBuf::from);
    let home = world.environment.home().unwrap_or_default();
    let home = home.to_string_lossy();
    let of_user: Vec<_> = of_user.into_iter().chain(of_everybody).collect();
    [of_user, of_machine.to_vec()]
        .into_iter()
        .flat_map(|directories| enabled(&directories, &home))
        .filter(|timer| is_ours(&timer.call, settings))
        .collect()
}

fn enabled(directories: &[PathBuf], home: &str) -> Vec<Timer> {
    let mut found = BTreeSet::new();
    for directory in directories {
        let links = fs::read_dir(directory.join("timers.target.wants"));
        for link in links.into_iter().flatten().flatten() {
            let path = link.path();
            if path.extension().is_some_and(|kind| kind == "timer")
                && let Ok(name) = link.file_name().into_string()
            {
                found.insert((name, path));
            }
        }
    }
    let read = |(name, link): (String, PathBuf)| {
        let timer = text(directories, &name, Some(&link))?;
        // A masked unit is a link to /dev/null.
        if timer.trim().is_empty() {
            return None;
        }
        let service = service_of(&name, &timer);
        // A unit that was enabled by its path lies beside its service.
        let beside = link.canonicalize().ok();
        let beside = beside.and_then(|link| Some(link.parent()?.join(&service)));
        let service = text(directories, &service, beside.as_deref())?;
        Timer::read(&name, &timer, &service, home)
    };
    found.into_iter().filter_map(read).collect()
}

/// The text of a unit with its drop-ins.
fn text(directories: &[PathBuf], name: &str, elsewhere: Option<&Path>) -> Option<String> {
    let names: Vec<String> = [Some(name.to_owned()), template_of(name)]
        .into_iter()
        .flatten()
        .collect();
    let mut places = names.iter().flat_map(|name| {
        directories
            .iter()
            .map(move |directory| directory.join(name))
    });
    let text = places.find_map(|place| fs::read_to_string(place).ok());
    let mut text = text.or_else(|| fs::read_to_string(elsewhere?).ok())?;
    // In the order of their names; of two with one name the nearer counts. See systemd.unit(5).
    let mut drop_ins = BTreeMap::new();
    for name in names.iter().rev() {
        for directory in directories.iter().rev() {
            let files = fs::read_dir(directory.join(format!("{name}.d")));
            let files = files.into_iter().flatten().flatten();
            drop_ins.extend(files.map(|file| (file.file_name(), file.path())));
        }
    }
    for path in drop_ins.values() {
        if path.extension().is_some_and(|kind| kind == "conf")
            && let Ok(drop_in) = fs::read_to_string(path)
        {
            text.push('\n');
            text.push_str(&drop_in);
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "whether the files are whole after a crash does not matter"
    )]
    fn of_two_drop_ins_of_one_name_the_nearer_counts_and_names_give_the_order() {
        let root = tempfile::tempdir().unwrap();
        let [near, far] = ["near", "far"].map(|name| root.path().join(name));
        for (directory, files) in [
            (&near, ["10-a.conf", "30-c.conf"]),
            (&far, ["10-a.conf", "20-b.conf"]),
        ] {
            let drop_ins = directory.join("x.timer.d");
            fs::create_dir_all(&drop_ins).unwrap();
            for file in files {
                fs::write(drop_ins.join(file), drop_ins.join(file).to_str().unwrap()).unwrap();
            }
            fs::write(drop_ins.join("note.txt"), "no drop-in").unwrap();
        }
        fs::write(far.join("x.timer"), "unit").unwrap();
        let text = text(&[near, far], "x.timer", None).unwrap();
        let root = root.path().to_str().unwrap();
        assert_eq!(
            text.replace(root, ""),
            "unit\n/near/x.timer.d/10-a.conf\n/far/x.timer.d/20-b.conf\n/near/x.timer.d/30-c.conf"
        );
    }
}
