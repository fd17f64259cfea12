use super::*;
use crate::authority::code::RANDOM_LENGTH;

const ALICE: &str = "alice@example.net";
const KEY: KeyHash = [1; 32];
const OTHER_KEY: KeyHash = [2; 32];
const START: u64 = 1_800_000_000;

fn node(number: u16) -> NodeId {
    let mut id = [0; 32];
    id[..2].copy_from_slice(&number.to_be_bytes());
    NodeId::from_bytes(id)
}

fn code(number: u8) -> Code {
    Code::from_random([number; RANDOM_LENGTH])
}

fn certificate(mailbox: &mut Mailbox, key: KeyHash, now: u64) -> Vec<u8> {
    let certified = Certified { certificate: [9; 32], key, issued: now, expires: now + DAY_S * 365 };
    mailbox.certified(ALICE, certified, vec![7]);
    vec![7]
}

#[test]
fn the_code_that_was_mailed_certifies_the_key_that_asked() {
    let mut mailbox = Mailbox::default();
    assert!(mailbox.ask(ALICE, KEY, node(1), &code(1), START));
    assert_eq!(mailbox.prove(ALICE, KEY, &code(1), START + 5), Verdict::Certify);
}

#[test]
fn a_lost_answer_is_given_again_to_the_same_key_and_within_the_hour() {
    let mut mailbox = Mailbox::default();
    mailbox.ask(ALICE, KEY, node(1), &code(1), START);
    let der = certificate(&mut mailbox, KEY, START);
    assert_eq!(mailbox.prove(ALICE, KEY, &code(1), START + 60), Verdict::Again(der));
    assert_eq!(mailbox.prove(ALICE, OTHER_KEY, &code(1), START + 60), Verdict::Wrong);
    assert_eq!(mailbox.prove(ALICE, KEY, &code(1), START + CODE_LIFETIME_S + 1), Verdict::Expired);
}

#[test]
fn a_code_helps_nobody_elses_key_and_no_other_address() {
    let mut mailbox = Mailbox::default();
    mailbox.ask(ALICE, KEY, node(1), &code(1), START);
    assert_eq!(mailbox.prove(ALICE, OTHER_KEY, &code(1), START), Verdict::Wrong);
    assert_eq!(mailbox.prove("bob@example.net", KEY, &code(1), START), Verdict::Wrong);
    // Nor does a guess with another key cost her one of her tries.
    for _ in 0..MAX_WRONG {
        mailbox.prove(ALICE, OTHER_KEY, &code(9), START);
    }
    assert_eq!(mailbox.prove(ALICE, KEY, &code(1), START), Verdict::Certify);
}

#[test]
fn a_code_ends_after_an_hour() {
    let mut mailbox = Mailbox::default();
    mailbox.ask(ALICE, KEY, node(1), &code(1), START);
    let end = START + CODE_LIFETIME_S;
    assert_eq!(mailbox.prove(ALICE, KEY, &code(1), end), Verdict::Certify);
    assert_eq!(mailbox.prove(ALICE, KEY, &code(1), end + 1), Verdict::Expired);
    assert_eq!(mailbox.prove(ALICE, KEY, &code(2), end + 1), Verdict::Wrong, "who guesses hears nothing");
    assert_eq!(mailbox.prove(ALICE, KEY, &code(1), end + REMEMBERED_S), Verdict::Wrong);
    assert!(mailbox.proofs.is_empty());
}

#[test]
fn after_five_wrong_codes_the_right_one_is_wrong_until_a_new_one_is_mailed() {
    let mut mailbox = Mailbox::default();
    mailbox.ask(ALICE, KEY, node(1), &code(1), START);
    for _ in 0..MAX_WRONG {
        assert_eq!(mailbox.prove(ALICE, KEY, &code(2), START), Verdict::Wrong);
    }
    assert_eq!(mailbox.prove(ALICE, KEY, &code(1), START), Verdict::Wrong);
    assert!(mailbox.ask(ALICE, KEY, node(1), &code(3), START));
    assert_eq!(mailbox.prove(ALICE, KEY, &code(3), START), Verdict::Certify);
}

#[test]
fn of_two_codes_for_one_key_the_later_counts() {
    let mut mailbox = Mailbox::default();
    mailbox.ask(ALICE, KEY, node(1), &code(1), START);
    mailbox.ask(ALICE, KEY, node(1), &code(2), START);
    assert_eq!(mailbox.prove(ALICE, KEY, &code(1), START), Verdict::Wrong);
    assert_eq!(mailbox.prove(ALICE, KEY, &code(2), START), Verdict::Certify);
}

#[test]
fn one_node_gets_three_mails_an_hour_and_six_a_day_sent_to_an_address() {
    let mut mailbox = Mailbox::default();
    let mut sent = 0;
    for hour in 0..24 {
        let now = START + hour * HOUR_S;
        let within = (0..10).filter(|_| mailbox.ask(ALICE, KEY, node(1), &code(1), now)).count();
        assert!(within <= ADDRESS_FROM_NODE.hour);
        sent += within;
    }
    assert_eq!(sent, ADDRESS_FROM_NODE.day);
    assert!(mailbox.ask(ALICE, KEY, node(1), &code(1), START + DAY_S), "the next day begins anew");
}

#[test]
fn an_inbox_is_not_filled_under_many_addresses() {
    let mut mailbox = Mailbox::default();
    let ask = |number: u64, mailbox: &mut Mailbox| {
        mailbox.ask(&format!("alice+{number}@example.net"), KEY, node(1), &code(1), START)
    };
    assert_eq!((0..10).filter(|number| ask(*number, &mut mailbox)).count(), ADDRESS_FROM_NODE.hour);
    // They are addresses all the same, each with a code of its own.
    assert_eq!(mailbox.prove("alice+1@example.net", KEY, &code(1), START), Verdict::Certify);
    assert_eq!(mailbox.prove(ALICE, KEY, &code(1), START), Verdict::Wrong);
}

#[test]
fn who_asks_in_her_name_from_a_few_nodes_does_not_keep_her_from_asking_at_her_own() {
    let mut mailbox = Mailbox::default();
    for hour in 0..12 {
        for _ in 0..10 {
            for attacker in 2..6 {
                mailbox.ask(ALICE, OTHER_KEY, node(attacker), &code(2), START + hour * HOUR_S);
            }
        }
        assert!(mailbox.mailed.len() <= ADDRESS_FROM_NEW_NODE.day);
    }
    assert!(mailbox.ask(ALICE, KEY, node(1), &code(1), START + 12 * HOUR_S));
    assert_eq!(mailbox.prove(ALICE, KEY, &code(1), START + 12 * HOUR_S), Verdict::Certify);
}

#[test]
fn a_flood_from_one_node_leaves_mails_for_others_and_memory_as_it_was() {
    let mut mailbox = Mailbox::default();
    for person in 0..5000_u32 {
        let mut key = KEY;
        key[..4].copy_from_slice(&person.to_be_bytes());
        mailbox.ask(&format!("p{person}@example.net"), key, node(1), &code(1), START);
    }
    assert_eq!((mailbox.mailed.len(), mailbox.proofs.len()), (NODE.hour, NODE.hour));
    assert!(mailbox.ask(ALICE, KEY, node(2), &code(1), START));
}

#[test]
fn a_flood_from_everywhere_ends_at_what_a_day_may_cost() {
    let mut mailbox = Mailbox::default();
    for minute in 0..24 * 60_u16 {
        for source in 0..20 {
            let address = format!("p{minute}.{source}@example.net");
            mailbox.ask(&address, KEY, node(minute * 20 + source), &code(1), START + u64::from(minute) * 60);
        }
    }
    assert_eq!(mailbox.mailed.len(), ALL.day);
    assert!(mailbox.proofs.len() <= 3 * ALL.hour);
    assert!(!mailbox.ask(ALICE, KEY, node(1), &code(1), START + DAY_S - 1));
    assert!(mailbox.ask(ALICE, KEY, node(1), &code(1), START + DAY_S + HOUR_S));
}

#[test]
fn an_address_has_eight_certificates_at_a_time() {
    let mut mailbox = Mailbox::default();
    for place in 0..8_u8 {
        let certified = Certified { certificate: [place; 32], key: [place; 32], issued: START, expires: START + DAY_S };
        mailbox.restore(ALICE, certified);
    }
    mailbox.ask(ALICE, KEY, node(1), &code(1), START);
    assert_eq!(mailbox.prove(ALICE, KEY, &code(1), START), Verdict::TooMany);
    assert_eq!((mailbox.all(START).count(), mailbox.all(START + DAY_S + 1).count()), (8, 0));
    mailbox.ask(ALICE, KEY, node(1), &code(2), START + DAY_S + 1);
    assert_eq!(mailbox.prove(ALICE, KEY, &code(2), START + DAY_S + 1), Verdict::Certify);
}
