#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::account::clock::MAX_AHEAD_MS;

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 32])
}

fn account(user: &str, number: Option<&str>, created_ms: u64) -> Account {
    Account {
        user: user.to_owned(),
        number: number.map(str::to_owned),
        ha1: Ha1Set::new(user, "example.org", "secret"),
        created_ms,
        settings: BTreeMap::new(),
    }
}

fn entry(user: &str, wall_ms: u64, by: u8, account: Option<Account>) -> Entry {
    Entry { user: user.to_owned(), stamp: Stamp { wall_ms, counter: 0, node: node(by) }, account }
}

/// A small generator with a seed (xorshift64*), so that a failing order can be had again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % sides
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.roll(last + 1));
        }
    }
}

/// Changes as three nodes might make them, with stamps that collide now and then and numbers that two users claim.
fn random_changes(dice: &mut Dice) -> Vec<Entry> {
    (0..30)
        .map(|_| {
            let user = ["alice", "bob", "carol", "dave"][dice.roll(4)];
            let number = [None, Some("201"), Some("202")][dice.roll(3)];
            let account = (dice.roll(4) > 0).then(|| account(user, number, dice.roll(5) as u64));
            entry(user, dice.roll(8) as u64, dice.roll(3) as u8, account)
        })
        .collect()
}

fn merged(changes: &[Entry]) -> Table {
    let mut table = Table::default();
    for change in changes {
        table.merge(change.clone()).unwrap();
    }
    table
}

fn view(table: &Table) -> (Vec<Entry>, Vec<Account>, [u8; 32], usize) {
    let entries = table.range("", None).cloned().collect();
    (entries, table.accounts().collect(), table.fingerprint(), table.users())
}

#[test]
fn tables_that_saw_the_same_changes_are_equal_in_whatever_order_and_however_often() {
    for seed in 1..=200 {
        let mut dice = Dice(seed);
        let mut changes = random_changes(&mut dice);
        let expected = view(&merged(&changes));
        dice.shuffle(&mut changes);
        let again = changes[..dice.roll(changes.len())].to_vec();
        changes.extend(again);
        assert_eq!(view(&merged(&changes)), expected, "seed {seed}");
    }
}

#[test]
fn merging_tables_is_associative_and_idempotent() {
    for seed in 1..=100 {
        let mut dice = Dice(seed);
        let parts = [random_changes(&mut dice), random_changes(&mut dice), random_changes(&mut dice)];
        let all_of = |table: &Table| table.range("", None).cloned().collect::<Vec<_>>();
        let [a, b, c] = parts.map(|part| all_of(&merged(&part)));
        let left = merged(&[all_of(&merged(&[a.clone(), b.clone()].concat())), c.clone()].concat());
        let right = merged(&[a, all_of(&merged(&[b, c].concat()))].concat());
        assert_eq!(view(&left), view(&right), "seed {seed}");
        let twice = merged(&[all_of(&left), all_of(&left)].concat());
        assert_eq!(view(&twice), view(&left), "seed {seed}");
    }
}

#[test]
fn the_newest_change_wins_and_an_older_one_is_no_news() {
    let mut table = Table::default();
    assert!(table.merge(entry("alice", 2, 1, Some(account("alice", Some("201"), 1)))).unwrap());
    assert!(!table.merge(entry("alice", 1, 2, None)).unwrap());
    assert_eq!(table.resolve("201"), Some("alice"));
}

#[test]
fn a_removed_user_stays_removed_when_an_old_copy_comes_back() {
    let old = entry("alice", 1, 1, Some(account("alice", Some("201"), 1)));
    let mut table = merged(&[old.clone(), entry("alice", 2, 1, None)]);
    assert!(!table.merge(old).unwrap());
    assert_eq!((table.account("alice"), table.owner("201"), table.users()), (None, None, 0));
}

#[test]
fn of_two_users_with_one_number_the_older_account_keeps_it() {
    let elder = entry("zoe", 9, 2, Some(account("zoe", Some("201"), 10)));
    let younger = entry("alice", 3, 1, Some(account("alice", Some("201"), 20)));
    let mut table = merged(&[younger, elder]);
    assert_eq!(table.owner("201"), Some("zoe"));
    assert_eq!(table.account("alice").unwrap().number, None);

    table.merge(entry("zoe", 11, 2, None)).unwrap();
    assert_eq!(table.account("alice").unwrap().number.as_deref(), Some("201"));
}

#[test]
fn a_users_name_goes_before_a_number() {
    let table = merged(&[
        entry("201", 1, 1, Some(account("201", None, 1))),
        entry("bob", 1, 1, Some(account("bob", Some("201"), 1))),
    ]);
    assert_eq!(table.resolve("201"), Some("201"));
    assert_eq!(table.resolve("bob"), Some("bob"));
    assert_eq!(table.resolve("202"), None);
}

#[test]
fn a_range_that_runs_backwards_is_empty() {
    let table = merged(&[entry("b", 1, 1, None), entry("d", 1, 1, None)]);
    let users = |after, upto| table.range(after, upto).map(|entry| entry.user.clone()).collect::<Vec<_>>();
    assert_eq!(users("", None), ["b", "d"]);
    assert_eq!(users("b", Some("d")), ["d"]);
    assert!(users("d", Some("b")).is_empty());
    assert!(users("b", Some("b")).is_empty());
    assert!(users("", Some("")).is_empty());
}

#[test]
fn an_entry_reads_back_and_equal_entries_have_equal_bytes() {
    let mut written = account("alice", Some("+4930201"), 7);
    written.settings.insert("language".to_owned(), "de".to_owned());
    for entry in [entry("alice", 5, 1, Some(written)), entry("alice", 6, 2, None)] {
        let bytes = wire::encode(&entry);
        assert_eq!(wire::decode(&bytes).unwrap(), entry);
        assert_eq!(wire::encode(&entry.clone()), bytes);
    }
}

#[test]
fn entries_out_of_bounds_are_refused() {
    let mut many = account("alice", None, 1);
    many.settings = (0..=MAX_SETTINGS).map(|number| (number.to_string(), String::new())).collect();
    let mut long = account("alice", None, 1);
    long.settings.insert("x".to_owned(), "y".repeat(MAX_SETTING_LEN + 1));
    for entry in [
        entry("Alice", 1, 1, None),
        entry("a\nb", 1, 1, None),
        entry("alice", 1, 1, Some(account("alice", Some("12x"), 1))),
        entry("alice", 1, 1, Some(many)),
        entry("alice", 1, 1, Some(long)),
    ] {
        assert!(wire::decode(&wire::encode(&entry)).is_err(), "{entry:?}");
    }
    assert!(wire::decode(b"").is_err());
    assert!(wire::decode(&[0xff; 40]).is_err());
}

#[test]
fn a_change_from_the_future_is_refused_and_leaves_no_trace() {
    let mut replica = Replica::new(node(1));
    let change = entry("alice", 1_000 + MAX_AHEAD_MS + 1, 2, Some(account("alice", None, 1)));
    assert!(matches!(replica.apply(1_000, change.clone()), Err(Refused::Ahead(_))));
    assert_eq!(replica.table.users(), 0);
    assert_eq!(replica.apply(1_001, change), Ok(true));
}

#[test]
fn our_change_wins_over_what_it_changes_though_our_clock_is_behind() {
    let mut replica = Replica::new(node(1));
    replica.apply(1_000, entry("alice", 200_000, 2, Some(account("alice", None, 1)))).unwrap();
    replica.change(1_000, "alice", None).unwrap();
    assert_eq!(replica.table.account("alice"), None);
}
