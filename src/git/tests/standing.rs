//! What took the place of what, for many commits as for few.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, proptest};

use crate::git::history::{Facts, Graph, Lineage, reach};
use crate::git::reflog::{Entry, Log, Run};
use crate::git::standing::{Case, Rewrites, Took};
use crate::git::tests::support::MARK;

const RUN: Run = Run {
    mark: MARK,
    start: 0,
};

fn commit(id: usize, parents: &[usize], tree: usize, line: usize) -> Facts {
    Facts {
        id: id.to_string(),
        parents: parents.iter().map(usize::to_string).collect(),
        tree: tree.to_string(),
        committed: 0,
        author: "Pat".to_owned(),
        email: "pat@example.org".to_owned(),
        authored: "2026-11-22T03:04:05Z".to_owned(),
        first_line: line.to_string(),
    }
}

fn entry(old: usize, new: usize, text: usize) -> Entry {
    Entry {
        log: Log::Head,
        old: old.to_string(),
        new: new.to_string(),
        time: 0,
        run: Some(MARK.to_owned()),
        text: Some(text.to_string()),
        is_push: false,
    }
}

/// What `kept` took the place of, each compared with each.
fn replaced(rewrites: Rewrites<'_>, kept: &[Facts], gone: &[Facts]) -> HashSet<String> {
    let mut replaced = HashSet::new();
    let mut new: Vec<&Facts> = kept.iter().collect();
    let mut checked = 0;
    while let Some(&by) = new.get(checked) {
        checked += 1;
        for old in gone.iter().chain(rewrites.made) {
            let went = |entry: &Entry| entry.new == by.id && entry.old == old.id && entry.made(by);
            let is_content = old.tree == by.tree || rewrites.entries.iter().any(went);
            let is_replaced = old.work() == by.work() || old.parents == by.parents && is_content;
            if old.id != by.id && is_replaced && replaced.insert(old.id.clone()) {
                new.push(old);
            }
        }
    }
    replaced
}

/// Up to nine commits, each with the places where it is: kept, gone, made.
fn commits() -> impl Strategy<Value = Vec<(Facts, [bool; 3])>> {
    let one = (
        vec(0..9_usize, 0..3),
        0..3_usize,
        0..4_usize,
        any::<[bool; 3]>(),
    );
    vec(one, 0..9).prop_map(|all| {
        let one = |(id, (parents, tree, line, places)): (usize, (Vec<usize>, _, _, _))| {
            let older: Vec<usize> = parents.into_iter().filter(|parent| *parent < id).collect();
            (commit(id, &older, tree, line), places)
        };
        all.into_iter().enumerate().map(one).collect()
    })
}

proptest! {
    #[test]
    fn what_was_replaced_is_what_comparing_each_with_each_tells(
        all in commits(),
        moves in vec((0..9_usize, 0..9_usize, 0..4_usize), 0..6),
    ) {
        let at = |place: usize| -> Vec<Facts> {
            all.iter().filter(|one| one.1[place]).map(|one| one.0.clone()).collect()
        };
        let (kept, gone, made) = (at(0), at(1), at(2));
        let entries: Vec<Entry> =
            moves.into_iter().map(|(old, new, text)| entry(old, new, text)).collect();
        let rewrites = Rewrites { entries: &entries, made: &made };

        let mut left = gone.clone();
        rewrites.drop_replaced(&mut left, &kept);
        let known = replaced(rewrites, &kept, &gone);
        let not_known: Vec<Facts> =
            gone.iter().filter(|old| !known.contains(&old.id)).cloned().collect();
        assert_eq!(left, not_known);

        let amended = rewrites.amended(&kept, &gone);
        for new in kept.iter().filter(|new| !gone.contains(new)) {
            let known = replaced(rewrites, std::slice::from_ref(new), &gone);
            let first = gone.iter().find(|old| known.contains(&old.id));
            assert_eq!(amended.get(&*new.id).copied(), first);
        }
    }

    #[test]
    fn what_lies_beyond_is_what_one_reaches_and_the_other_does_not(
        all in commits(),
        tip in 0..10_usize,
        other in 0..10_usize,
    ) {
        let graph: Graph = all.iter().map(|(one, _)| (one.id.as_str(), one)).collect();
        let (tip, other) = (tip.to_string(), other.to_string());
        let beyond = Lineage::new(&graph).beyond(&tip, &other);
        let known = &reach(&graph, &tip) - &reach(&graph, &other);
        assert_eq!(beyond.len(), known.len());
        assert_eq!(beyond.into_iter().collect::<HashSet<_>>(), known);
    }
}

#[test]
fn ten_thousand_commits_in_the_place_of_others_are_seen_at_once() {
    const MANY: usize = 10_000;
    let began = Instant::now();
    let line = |first: usize| -> Vec<Facts> {
        let one = |number| {
            commit(
                first + number,
                &[first + number - 1],
                first + number,
                number,
            )
        };
        (1..=MANY).map(one).collect()
    };
    let (kept, gone, made) = (line(0), line(2 * MANY), line(4 * MANY));
    let entries: Vec<Entry> = [&gone, &made, &kept]
        .into_iter()
        .flatten()
        .map(|new| {
            let id: usize = new.id.parse().unwrap();
            entry(id - 1, id, new.first_line.parse().unwrap())
        })
        .collect();
    let rewrites = Rewrites {
        entries: &entries,
        made: &made,
    };
    let case = Case::new(RUN, &entries, &kept, &[]);
    assert!(case.explains_the_tip());
    let took = Took::new(Some("0"), &gone, RUN, rewrites);
    assert!(!took.others_took(&gone[0].id));
    let amended = rewrites.amended(&kept, &gone[..100]);
    assert!(kept[..100].iter().all(|new| amended.contains_key(&*new.id)));
    let mut left = gone.clone();
    rewrites.drop_replaced(&mut left, &kept);
    assert!(left.is_empty());
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "it took too long"
    );
}

#[test]
fn a_circle_of_parents_ends() {
    let all = [commit(0, &[1], 0, 0), commit(1, &[0], 0, 0)];
    let graph: Graph = all.iter().map(|one| (one.id.as_str(), one)).collect();
    assert!(Lineage::new(&graph).beyond("0", "1").len() <= 1);
}
