//! The flows of RFC 3327 (Path), message by message.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod flows_support;

use flows_support::{Part, Play, assert_played, assert_whole, play};
use meshtone_sip::message::Header;

#[test]
fn every_page_is_here() {
    assert_whole("rfc3327", &["5.5.1", "5.5.2"], 12);
}

#[test]
fn path_is_kept_and_followed_as_the_pages_show() {
    const THROUGH: &str = "U>1 1>2 2>3 3>R R>3 3>2 2>1 1>U";
    let plays = vec![
        Play {
            except: &[(
                5,
                Part::Field(Header::Contact),
                "the page does not say when the contact expires (RFC 3261 §10.3)",
            )],
            ..play("rfc3327/5.5.1", ('R', "REGISTRAR.EXAMPLEHOME.COM"), THROUGH)
        },
        Play {
            except: &[(3, Part::Hops, "the page has no Max-Forwards (RFC 3261 §16.6)")],
            ..play("rfc3327/5.5.1", ('2', "178.73.76.230"), THROUGH)
        },
        Play {
            leaves_path: true,
            except: &[(2, Part::Hops, "the page has no Max-Forwards (RFC 3261 §16.6)")],
            ..play("rfc3327/5.5.2", ('R', "143.70.6.83"), "V>R R>3 3>1 1>U")
        },
    ];
    assert_played(plays, false);
}
