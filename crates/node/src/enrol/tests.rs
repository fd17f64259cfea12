#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;

use meshtone_identity::ticket::OPEN_TOKEN;
use meshtone_identity::{Rights, domain};
use meshtone_overlay::Asker;

use super::error::Refusal;
use super::*;
use crate::account::SystemRandom;

const AT: u64 = 1_800_000_000;
const NOW: fn() -> u64 = || AT;
const HOUR: Duration = Duration::from_secs(3600);

struct Folder {
    store: Store,
    _folder: TempDir,
}

fn folder() -> Folder {
    let folder = TempDir::new().unwrap();
    Folder { store: Store::open(folder.path()).unwrap(), _folder: folder }
}

fn address() -> SocketAddr {
    "192.0.2.1:6084".parse().unwrap()
}

struct Founder {
    identity: Membership,
    inviter: Arc<Inviter>,
    folder: Folder,
}

fn founder() -> Founder {
    let folder = folder();
    let identity = found(&folder.store, "example.org", NOW, &SystemRandom).unwrap();
    let inviter = identity.inviter();
    Founder { identity, inviter, folder }
}

fn ticket(founder: &Founder) -> Ticket {
    let ticket = founder.inviter.invite(Role::Home, HOUR, &[address()]).unwrap();
    ticket.to_string().parse().unwrap()
}

/// A machine that wants to join: its keys, and the bytes it would send.
fn joiner(folder: &Folder, ticket: &Ticket) -> (Keys, LinkKey, Vec<u8>) {
    let keys = Keys::make(&folder.store, &SystemRandom).unwrap();
    let link_key = keys.link_key().unwrap();
    let request = join::request(&keys, ticket).unwrap();
    (keys, link_key, request)
}

fn accept(folder: &Folder, keys: Keys, ticket: &Ticket, reply: &[u8]) -> Result<Membership, EnrolError> {
    let inviter = PeerAddress { link_key: ticket.inviter, addrs: ticket.addresses.clone() };
    join::accept(&folder.store, keys, ticket, inviter, reply, NOW)
}

/// Whoever has this link key, from somewhere on the Internet.
fn from(link_key: LinkKey) -> Asker {
    Asker { link_key, source: Some([198, 51, 100, 7].into()) }
}

fn refusal(reply: &[u8]) -> Refusal {
    wire::decode_reply(reply).unwrap().unwrap_err()
}

#[test]
fn a_first_run_founds_an_overlay_and_the_next_one_finds_it() {
    let folder = folder();
    assert!(load(&folder.store, NOW).unwrap().is_none());
    let first = found(&folder.store, "example.org", NOW, &SystemRandom).unwrap();
    assert!(first.first_run && first.inviter.may_invite());

    let second = load(&folder.store, NOW).unwrap().unwrap();
    assert!(!second.first_run && second.inviter.may_invite());
    assert_eq!((second.node(), second.overlay()), (first.node(), first.overlay()));
    assert_eq!(second.link_secret, first.link_secret);
    assert_eq!(second.domain, "example.org");
}

#[test]
fn an_interrupted_first_run_goes_on_with_the_keys_it_made() {
    let folder = folder();
    let keys = Keys::make(&folder.store, &SystemRandom).unwrap();
    let authority = authority(&folder.store, AT).unwrap();
    let identity = found(&folder.store, "example.org", NOW, &SystemRandom).unwrap();
    assert_eq!(identity.link_secret, keys.link_secret);
    assert_eq!(identity.overlay(), authority.certificate().overlay());
}

#[test]
fn a_machine_with_a_ticket_becomes_a_home_node_of_the_domain() {
    let (founder, folder) = (founder(), folder());
    let ticket = ticket(&founder);
    let (keys, link_key, request) = joiner(&folder, &ticket);
    let reply = founder.inviter.handle(from(link_key), &request);
    let joined = accept(&folder, keys, &ticket, &reply).unwrap();

    assert_eq!(joined.overlay(), founder.identity.overlay());
    assert_eq!(joined.domain, "example.org");
    assert_ne!(joined.node(), founder.identity.node());
    assert!(!joined.inviter.may_invite(), "the authority's key does not travel");
    let again = load(&folder.store, NOW).unwrap().unwrap();
    assert_eq!(again.node(), joined.node());
    assert_eq!(again.bootstrap, [PeerAddress { link_key: founder.identity.link_key(), addrs: vec![address()] }]);
}

/// Joins with a ticket of this role, as far as that is granted.
fn join_as(founder: &Founder, role: Role, person: Option<&str>) -> Result<Membership, Refusal> {
    let folder = folder();
    let ticket = founder.inviter.invite_for(role, person, HOUR, &[address()]).unwrap();
    let (keys, link_key, request) = joiner(&folder, &ticket);
    let reply = founder.inviter.handle(from(link_key), &request);
    wire::decode_reply(&reply).unwrap()?;
    Ok(accept(&folder, keys, &ticket, &reply).unwrap())
}

#[test]
fn a_node_that_only_stores_is_certified_as_such_and_so_is_one_that_only_uses() {
    let founder = founder();
    assert_eq!(founder.identity.certificate.rights(), Rights::Full);
    let store = join_as(&founder, Role::StoreOnly, None).unwrap();
    assert_eq!(store.certificate.rights(), Rights::StoreOnly);
    assert_eq!(store.domain, domain::of_member(&store.node()), "no domain of anybody's");
    assert_eq!(join_as(&founder, Role::Member, None).unwrap().certificate.rights(), Rights::Full);
    let may: Vec<String> = founder.inviter.nodes().unwrap().into_iter().map(|row| row.may).collect();
    assert_eq!(may.iter().filter(|may| *may == "store").count(), 1, "{may:?}");

    let trusted = self::founder();
    trusted.inviter.govern(Admission { members_serve: false, ..Admission::default() });
    assert_eq!(join_as(&trusted, Role::Member, None).unwrap().certificate.rights(), Rights::UseOnly);
    assert_eq!(join_as(&trusted, Role::Home, None).unwrap().certificate.rights(), Rights::Full);
}

#[test]
fn whoever_likes_to_joins_where_the_overlay_is_open_and_nowhere_else() {
    let closed = founder();
    let refused = closed.inviter.invite(Role::Open, HOUR, &[address()]);
    assert!(matches!(refused, Err(InviteError::NotOpen)));
    let forged = Ticket { role: Role::Open, token: OPEN_TOKEN, ..ticket(&closed) };
    let folder = folder();
    let (_, link_key, request) = joiner(&folder, &forged);
    assert_eq!(refusal(&closed.inviter.handle(from(link_key), &request)), Refusal::NotOpen);

    let open = founder();
    open.inviter.govern(Admission { is_open: true, ..Admission::default() });
    let text = open.inviter.invite(Role::Open, HOUR, &[address()]).unwrap().to_string();
    assert_eq!(open.inviter.invite(Role::Open, HOUR, &[address()]).unwrap().to_string(), text, "one for everybody");
    let joined: Vec<Membership> = (0..8).map(|_| join_as(&open, Role::Open, None).unwrap()).collect();
    assert!(joined.iter().all(|node| node.certificate.rights() == Rights::UseOnly));
    assert_eq!(join_as(&open, Role::Open, None).unwrap_err(), Refusal::TooManyGuests, "from one network");
    let (keys, ticket) = (self::folder(), text.parse().unwrap());
    let (_, link_key, request) = joiner(&keys, &ticket);
    let elsewhere = Asker { link_key, source: Some([203, 0, 113, 9].into()) };
    let reply = open.inviter.handle(elsewhere, &request);
    assert!(wire::decode_reply(&reply).unwrap().is_ok());
    assert_eq!(open.inviter.handle(elsewhere, &request), reply, "the answer was lost");
    assert_eq!(refusal(&open.inviter.handle(from(LinkKey::from_bytes([9; 32])), &request)), Refusal::BadRequest);
}

#[test]
fn a_person_whom_tickets_name_has_so_many_nodes_and_no_more() {
    let founder = founder();
    founder.inviter.govern(Admission { nodes_per_person: 2, ..Admission::default() });
    let alice = Some("alice@example.net");
    let first = join_as(&founder, Role::Member, alice).unwrap();
    let folder = folder();
    let open = founder.inviter.invite_for(Role::Member, alice, HOUR, &[address()]).unwrap();
    let refused = founder.inviter.invite_for(Role::Member, Some("Alice@Example.net"), HOUR, &[address()]);
    assert!(matches!(refused, Err(InviteError::TooManyOfPerson(person)) if person == "alice@example.net"));
    assert!(join_as(&founder, Role::Member, Some("bob@example.net")).is_ok());
    assert!(join_as(&founder, Role::Member, None).is_ok(), "nobody's are not counted");
    let (_, link_key, request) = joiner(&folder, &open);
    assert!(wire::decode_reply(&founder.inviter.handle(from(link_key), &request)).unwrap().is_ok());
    founder.inviter.revoke(first.node(), "").unwrap();
    assert!(join_as(&founder, Role::Member, alice).is_ok(), "one that was revoked is none");
    let wrong = founder.inviter.invite_for(Role::Member, Some("alice"), HOUR, &[address()]);
    assert!(matches!(wrong, Err(InviteError::NoPerson(_))));
}

#[test]
fn a_member_gets_a_node_with_a_domain_of_its_own_and_none_of_the_inviters() {
    let (founder, folder) = (founder(), folder());
    let ticket: Ticket = founder.inviter.invite(Role::Member, HOUR, &[address()]).unwrap().to_string().parse().unwrap();
    let (keys, link_key, request) = joiner(&folder, &ticket);
    let reply = founder.inviter.handle(from(link_key), &request);
    let joined = accept(&folder, keys, &ticket, &reply).unwrap();
    assert_eq!(joined.domain, meshtone_identity::domain::of_member(&joined.node()));
    assert_eq!(joined.authority_domain, "example.org");
    let again = load(&folder.store, NOW).unwrap().unwrap();
    assert_eq!((again.domain, again.authority_domain), (joined.domain, joined.authority_domain));
    // Nor does the inviter give one who asks as a member's node its domain after a restart.
    let restarted = load(&founder.folder.store, NOW).unwrap().unwrap().inviter;
    assert_eq!(restarted.handle(from(link_key), &request), reply);
}

#[test]
fn a_reply_for_another_role_than_the_tickets_is_not_taken() {
    let (founder, folder) = (founder(), folder());
    let mut ticket = founder.inviter.invite(Role::Member, HOUR, &[address()]).unwrap();
    let (keys, link_key, request) = joiner(&folder, &ticket);
    let reply = founder.inviter.handle(from(link_key), &request);
    ticket.role = Role::Home;
    assert!(matches!(accept(&folder, keys, &ticket, &reply), Err(EnrolError::OtherDomain { .. })));
}

#[test]
fn a_ticket_admits_one_machine_and_answers_it_alike_when_asked_again() {
    let (founder, first, second) = (founder(), folder(), folder());
    let ticket = ticket(&founder);
    let (_, link_key, request) = joiner(&first, &ticket);
    let reply = founder.inviter.handle(from(link_key), &request);
    assert_eq!(founder.inviter.handle(from(link_key), &request), reply);

    let (_, other_key, other_request) = joiner(&second, &ticket);
    assert_eq!(refusal(&founder.inviter.handle(from(other_key), &other_request)), Refusal::Used);

    // Even after a restart of the inviter.
    let restarted = load(&founder.folder.store, NOW).unwrap().unwrap().inviter;
    assert_eq!(restarted.handle(from(link_key), &request), reply);
    assert_eq!(refusal(&restarted.handle(from(other_key), &other_request)), Refusal::Used);
}

#[test]
fn an_expired_ticket_admits_nobody() {
    let (founder, folder) = (founder(), folder());
    let ticket = ticket(&founder);
    let late = load(&founder.folder.store, || AT + 3601).unwrap().unwrap().inviter;
    let (_, link_key, request) = joiner(&folder, &ticket);
    assert_eq!(refusal(&late.handle(from(link_key), &request)), Refusal::Expired);
}

#[test]
fn requests_without_a_ticket_or_a_proof_are_refused() {
    let (founder, folder) = (founder(), folder());
    let ticket = ticket(&founder);
    let (_, link_key, request) = joiner(&folder, &ticket);

    let mut guessed = ticket.clone();
    guessed.token[0] ^= 1;
    let (_, _, wrong_token) = joiner(&folder, &guessed);
    assert_eq!(refusal(&founder.inviter.handle(from(link_key), &wrong_token)), Refusal::Unknown);

    let other_link = LinkKey::from_bytes([9; 32]);
    assert_eq!(refusal(&founder.inviter.handle(from(other_link), &request)), Refusal::BadRequest);

    let mut torn = wire::Request::decode(&request).unwrap();
    let last = torn.certification.last_mut().unwrap();
    *last ^= 1;
    assert_eq!(refusal(&founder.inviter.handle(from(link_key), &torn.encode())), Refusal::BadRequest);
    assert_eq!(refusal(&founder.inviter.handle(from(link_key), b"")), Refusal::BadRequest);

    // None of this has spent the ticket.
    assert!(wire::decode_reply(&founder.inviter.handle(from(link_key), &request)).unwrap().is_ok());
}

#[test]
fn certificates_of_another_overlay_are_not_taken_and_nothing_is_kept() {
    let (honest, liar, folder) = (founder(), founder(), folder());
    let real = ticket(&honest);
    let mut stolen = ticket(&liar);
    let (keys, link_key, request) = joiner(&folder, &stolen);
    let reply = liar.inviter.handle(from(link_key), &request);
    stolen.overlay = real.overlay;
    let error = accept(&folder, keys, &stolen, &reply).unwrap_err();
    assert!(matches!(error, EnrolError::Identity(meshtone_identity::Error::OtherOverlay { .. })), "{error}");
    assert!(load(&folder.store, NOW).unwrap().is_none());
}

#[test]
fn certificates_for_somebody_else_are_not_taken() {
    let (founder, first, second) = (founder(), folder(), folder());
    let ticket = ticket(&founder);
    let (_, link_key, request) = joiner(&first, &ticket);
    let reply = founder.inviter.handle(from(link_key), &request);
    let (keys, _, _) = joiner(&second, &ticket);
    assert!(matches!(accept(&second, keys, &ticket, &reply), Err(EnrolError::NotOurs)));
    assert!(matches!(accept(&second, joiner(&second, &ticket).0, &ticket, b"?"), Err(EnrolError::BadReply)));
}

#[test]
fn a_node_without_the_authority_invites_nobody() {
    let (founder, folder) = (founder(), folder());
    let ticket = ticket(&founder);
    let (keys, link_key, request) = joiner(&folder, &ticket);
    let joined = accept(&folder, keys, &ticket, &founder.inviter.handle(from(link_key), &request)).unwrap();
    let inviter = joined.inviter();
    assert!(matches!(inviter.invite(Role::Home, HOUR, &[address()]), Err(InviteError::NoAuthority)));
}

#[test]
fn tickets_are_bounded_in_time_and_number() {
    let founder = founder();
    assert!(matches!(founder.inviter.invite(Role::Home, HOUR * 24 * 365, &[address()]), Err(InviteError::BadValidity)));
    assert!(matches!(founder.inviter.invite(Role::Home, Duration::ZERO, &[address()]), Err(InviteError::BadValidity)));
    assert!(matches!(founder.inviter.invite(Role::Home, HOUR, &[]), Err(InviteError::NoAddress)));
    for _ in 0..invite::MAX_OPEN_INVITES {
        founder.inviter.invite(Role::Home, HOUR, &[address()]).unwrap();
    }
    assert!(matches!(founder.inviter.invite(Role::Home, HOUR, &[address()]), Err(InviteError::TooMany)));
}

#[test]
fn a_domain_has_so_many_nodes_and_the_one_too_many_is_told_so() {
    let founder = founder();
    let last_ticket = ticket(&founder);
    let (mut first, folder) = (None, folder());
    for _ in 1..invite::MAX_NODES {
        let ticket = ticket(&founder);
        let (_, link_key, request) = joiner(&folder, &ticket);
        let reply = founder.inviter.handle(from(link_key), &request);
        assert!(wire::decode_reply(&reply).unwrap().is_ok());
        first.get_or_insert((link_key, request, reply));
    }
    let (_, link_key, request) = joiner(&folder, &last_ticket);
    let restarted = load(&founder.folder.store, NOW).unwrap().unwrap().inviter;
    for inviter in [&founder.inviter, &restarted] {
        assert_eq!(refusal(&inviter.handle(from(link_key), &request)), Refusal::TooManyNodes);
        assert!(matches!(inviter.invite(Role::Home, HOUR, &[address()]), Err(InviteError::TooManyNodes)));
        let (link_key, request, reply) = first.as_ref().unwrap();
        assert_eq!(inviter.handle(from(*link_key), request), *reply, "who was admitted may ask again");
    }
    // A certificate that has run out counts no more.
    let (authority, key) = Authority::create(AT).unwrap();
    let issuer = Arc::new(Authority::from_parts(authority.certificate().der(), &key).unwrap());
    let Membership { certificate, home, .. } = founder.identity;
    let certificates = Certificates { authority: authority.certificate().clone(), node: certificate, home };
    let later = || AT + NODE_LIFETIME.as_secs() + 1;
    let store = founder.folder.store.clone();
    let inviter = Inviter::open(store, &certificates, Some(issuer), later, system_random()).unwrap();
    assert!(inviter.invite(Role::Home, HOUR, &[address()]).is_ok());
}

#[test]
fn nothing_of_a_token_is_in_the_store() {
    let founder = founder();
    let ticket = ticket(&founder);
    for (key, value) in founder.folder.store.load(crate::store::Table::Tickets).unwrap() {
        assert!(!key.contains(&data_encoding::HEXLOWER.encode(&ticket.token)));
        assert!(!value.windows(16).any(|window| window == ticket.token));
    }
}

#[tokio::test]
async fn a_node_does_not_change_its_domain_or_overlay_by_mistake() {
    let (founder, other) = (founder(), founder());
    let store = &founder.folder.store;
    let ask = async |domain: Option<&str>, ticket: Option<&str>| {
        establish_at(store, domain, ticket, NOW, &SystemRandom).await
    };
    let own = ticket(&founder).to_string();
    let foreign = ticket(&other).to_string();
    assert_eq!(ask(None, None).await.unwrap().node(), founder.identity.node());
    assert_eq!(ask(Some("Example.org"), Some(&own)).await.unwrap().node(), founder.identity.node());
    assert!(matches!(ask(Some("example.net"), None).await, Err(EnrolError::OtherDomain { .. })));
    assert!(matches!(ask(None, Some(&foreign)).await, Err(EnrolError::AlreadyEnrolled { .. })));
    assert!(matches!(ask(None, Some("mt1-xyz")).await, Err(EnrolError::Ticket(_))));
    assert!(matches!(ask(Some("a b"), None).await, Err(EnrolError::Identity(_))));
}

#[tokio::test]
async fn a_domain_that_nobody_knows_yet_may_still_be_changed() {
    let founder = founder();
    let store = &founder.folder.store;
    let ask = async |domain: &str| establish_at(store, Some(domain), None, NOW, &SystemRandom).await;
    let renamed = ask("example.net").await.unwrap();
    assert_eq!((renamed.domain.as_str(), renamed.overlay()), ("example.net", founder.identity.overlay()));
    assert_eq!(load(store, NOW).unwrap().unwrap().domain, "example.net");
    assert_eq!(renamed.inviter.nodes().unwrap().len(), 1, "the node of before is none any more");
    renamed.inviter.invite(Role::Home, HOUR, &[address()]).unwrap();
    assert!(matches!(ask("example.com").await, Err(EnrolError::OtherDomain { .. })));
}

#[test]
fn certificates_are_renewed_for_the_same_node_when_half_of_their_life_is_over_and_for_nobody_else() {
    const LATER: fn() -> u64 = || AT + 200 * 86_400;
    let (founder, folder) = (founder(), folder());
    let ticket = ticket(&founder);
    let (keys, link_key, request) = joiner(&folder, &ticket);
    let reply = founder.inviter.handle(from(link_key), &request);
    let joined = accept(&folder, keys, &ticket, &reply).unwrap();
    let shown = renew::Renewal {
        certification: meshtone_identity::EnrolRequest::encode(&*joined.signer, link_key).unwrap(),
        node: joined.certificate.der().to_vec(),
        home: joined.home.der().to_vec(),
    };
    assert!(matches!(founder.inviter.renew(joined.node(), &shown), Err(RenewError::TooEarly)));

    let later = load(&founder.folder.store, LATER).unwrap().unwrap().inviter();
    assert!(matches!(later.renew(founder.identity.node(), &shown), Err(RenewError::NotTheirs)), "over another's link");
    let thief = SigningKey::generate().unwrap();
    let certification = meshtone_identity::EnrolRequest::encode(&thief, link_key).unwrap();
    let stolen = renew::Renewal { certification, ..shown.clone() };
    assert!(matches!(later.renew(joined.node(), &stolen), Err(RenewError::NotTheirs)), "without the key");
    let foreign = renew::Renewal { home: founder.identity.home.der().to_vec(), ..shown.clone() };
    assert!(matches!(later.renew(joined.node(), &foreign), Err(RenewError::Identity(_))), "another's domain");

    let renew::Pair { node, home } = later.renew(joined.node(), &shown).unwrap();
    assert_eq!((node.node_id(), node.link_key()), (joined.node(), link_key));
    assert_eq!((home.domain(), node.not_after()), ("example.org", LATER() + NODE_LIFETIME.as_secs()));
    let listed = later.nodes().unwrap().into_iter().find(|row| row.node == joined.node().to_string()).unwrap();
    assert_eq!(listed.expires, node.not_after());
    later.revoke(joined.node(), "stolen").unwrap();
    assert!(matches!(later.renew(joined.node(), &shown), Err(RenewError::Revoked)));
    let listed = later.nodes().unwrap().into_iter().find(|row| row.node == joined.node().to_string()).unwrap();
    assert_eq!((listed.revoked, listed.because.as_str()), (Some(LATER()), "stolen"));
}
