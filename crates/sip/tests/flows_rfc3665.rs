//! The call flows of RFC 3665, message by message.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod flows_support;

use flows_support::{Part, Play, act, assert_played, assert_whole, play};
use meshtone_sip::message::Header;

const TWO_PROXIES: &str = "A>1 1>A A>1 A>1 1>2 1>A 2>B 2>1 B>2 2>1 1>A B>2 2>1 1>A A>1 1>2 2>B B>2 2>1 1>A A>1 1>2 2>B";
const TWO_CHALLENGES: &str = "A>1 1>A A>1 A>1 1>A 1>2 2>1 1>2 1>A A>1 A>1 1>A 1>2 2>1 2>B B>2 2>1 1>A A>1 1>2 2>B";
const DEAD_PROXY: &str = "A>1 A>1 A>1 A>1 A>1 A>1 A>1 A>2 2>A A>2 A>2 2>B 2>A B>2 2>A B>2 2>A A>2 2>B B>2 2>A A>2 2>B";
const ALG: &str = "A>G G>2 G>A 2>B 2>G B>2 2>G G>A B>2 2>G G>A A>G G>B A>G G>B B>G G>A";
const REDIRECT: &str = "A>R R>A A>R A>3 3>B 3>A B>3 3>A B>3 3>A A>3 3>B B>3 3>A A>3 3>B";
const REINVITE: &str = "A>2 2>B 2>A B>2 2>A B>2 2>A A>B B>A A>B B>A A>B B>A";
const NO_ANSWER: &str = "A>1 1>2 1>A 2>B 2>1 B>2 2>1 1>A A>1 1>A 1>2 2>1 2>B B>2 B>2 2>B 2>1 1>2 1>A A>1";
const BUSY: &str = "A>1 1>2 1>A 2>B 2>1 B>2 2>B 2>1 1>2 1>A A>1";
const SILENT: &str = "A>1 1>2 1>A 2>B 2>1 2>B 2>B 2>B 2>B 2>B 2>B 2>1 1>2 1>A A>1";
const UNAVAILABLE: &str = "A>1 1>2 1>A 2>B 2>1 B>2 2>1 1>A B>2 2>B 2>1 1>2 1>A A>1";
const TWO_PHONES: &str = "A>B B>A B>A A>B B>A A>B";

const REGISTRAR: (char, &str) = ('S', "ss2.biloxi.example.com");
const SS1: (char, &str) = ('1', "ss1.atlanta.example.com");
const SS2: (char, &str) = ('2', "ss2.biloxi.example.com");

#[test]
fn every_page_is_here() {
    let files = [
        "2.01", "2.02", "2.03", "2.04", "2.05", "3.01", "3.02", "3.03", "3.04", "3.05", "3.06", "3.07", "3.08", "3.09",
        "3.10", "3.11",
    ];
    assert_whole("rfc3665", &files, 193);
}

#[test]
fn a_registrar_answers_as_the_pages_show() {
    const EXPIRY: &str = "the page lets the mailto: contact last for ever; ours has the bounds of all others";
    let plays = vec![
        play("rfc3665/2.01", REGISTRAR, "B>S S>B B>S S>B"),
        Play { except: &[(2, Part::Field(Header::Contact), EXPIRY)], ..play("rfc3665/2.02", REGISTRAR, "B>S S>B") },
        Play { except: &[(2, Part::Field(Header::Contact), EXPIRY)], ..play("rfc3665/2.03", REGISTRAR, "B>S S>B") },
        play("rfc3665/2.04", REGISTRAR, "B>S S>B"),
        play("rfc3665/2.05", REGISTRAR, "B>S S>B B>S S>B"),
    ];
    assert_played(plays, true);
}

#[test]
fn two_phones_alone_call_as_the_page_shows_and_each_may_be_our_agent() {
    const NO_TRANSPORT: &str = "the page forgets the transport that the Contact names (RFC 3261 §12.2.1.1)";
    let plays = vec![
        Play {
            except: &[(4, Part::Uri, NO_TRANSPORT)],
            ..act("rfc3665/3.01", ('A', "client.atlanta.example.com"), TWO_PHONES)
        },
        Play {
            except: &[(5, Part::Uri, NO_TRANSPORT)],
            ..act("rfc3665/3.01", ('B', "client.biloxi.example.com"), TWO_PHONES)
        },
    ];
    assert_played(plays, false);
}

#[test]
fn each_proxy_forwards_as_the_pages_show() {
    let plays = vec![
        Play {
            except: &[(22, Part::Via, "the page has another `received` than in message 21")],
            ..play("rfc3665/3.02", SS1, TWO_PROXIES)
        },
        Play {
            except: &[(23, Part::Via, "the page has another `received` than in message 22")],
            ..play("rfc3665/3.02", SS2, TWO_PROXIES)
        },
        Play {
            except: &[
                (8, Part::Via, "the page lets the proxy sign with the caller's host"),
                (20, Part::Field(Header::Contact), "the page adds a Contact to an ACK on its way"),
            ],
            ..play("rfc3665/3.03", SS1, TWO_CHALLENGES)
        },
        play("rfc3665/3.03", SS2, TWO_CHALLENGES),
        play("rfc3665/3.04", SS2, DEAD_PROXY),
        Play { leaves_path: true, ..play("rfc3665/3.05", SS2, ALG) },
        play("rfc3665/3.06", ('R', "ss1.atlanta.example.com"), REDIRECT),
        Play {
            except: &[(14, Part::Via, "the page notes `received` in the Via of the proxy that received")],
            ..play("rfc3665/3.06", ('3', "ss3.chicago.example.com"), REDIRECT)
        },
        Play { leaves_path: true, ..play("rfc3665/3.07", SS2, REINVITE) },
    ];
    assert_played(plays, false);
}

#[test]
fn each_proxy_fails_as_the_pages_show() {
    let plays = vec![
        Play {
            except: &[
                (10, Part::Tag, "the page forgets the To tag of a 200 (RFC 3261 §8.2.6.2)"),
                (11, Part::Uri, "the page cancels with another Request-URI than it invited"),
                (18, Part::Via, "the page signs with the other proxy's host"),
            ],
            ..play("rfc3665/3.08", SS1, NO_ANSWER)
        },
        Play {
            except: &[(12, Part::Tag, "the page forgets the To tag of a 200 (RFC 3261 §8.2.6.2)")],
            ..play("rfc3665/3.08", SS2, NO_ANSWER)
        },
        play("rfc3665/3.09", SS1, BUSY),
        play("rfc3665/3.09", SS2, BUSY),
        play("rfc3665/3.10", SS1, SILENT),
        play("rfc3665/3.10", SS2, SILENT),
        Play {
            except: &[(2, Part::Body, "message 1 lacks the first line of its body")],
            ..play("rfc3665/3.11", SS1, UNAVAILABLE)
        },
        play("rfc3665/3.11", SS2, UNAVAILABLE),
    ];
    assert_played(plays, false);
}
