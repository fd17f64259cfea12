//! Which contacts a caller wants, and in which order (RFC 3841; feature sets of RFC 3840 and RFC 2533).
//!
//! Contacts of one phone are one choice: its flows are tried one after the other (RFC 5626 §7). What a proxy may do beyond
//! picking contacts (redirect, queue) is not done.

use std::cmp::Reverse;

use super::{Binding, Feature};
use crate::message::{Header, Message, NameAddr, split_values};

/// Most values of Accept-Contact and of Reject-Contact that are looked at; each is matched with each contact.
const PREDICATES_MAX: usize = 16;

/// Most terms of one of them.
const TERMS_MAX: usize = 32;

/// The best rank; ranks go down from here as `q` does.
const FIRST_RANK: u16 = 1000;

/// One phone, or one contact that names no instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice<'b> {
    /// Preference in thousandths: choices of the same one belong together, higher ones come first.
    pub q: u16,
    /// The ways to it, the one last heard of first; the next is for when one has failed.
    pub flows: Vec<&'b Binding>,
}

/// The choices that a request leaves of these bindings, the best first.
pub fn choose<'b>(bindings: &'b [Binding], request: &Message) -> Vec<Choice<'b>> {
    let mut choices = group(bindings);
    choices.sort_by_key(|choice| Reverse(choice.q));
    let reject = predicates(request, Header::RejectContact);
    let accept = predicates(request, Header::AcceptContact);
    if reject.is_empty() && accept.is_empty() {
        let able: Vec<Choice<'b>> = choices.iter().filter(|choice| is_able(choice, request)).cloned().collect();
        // If none is, those that say so will answer so (RFC 3841 §7.2.4).
        if !able.is_empty() {
            choices = able;
        }
    } else {
        let judged = choices.into_iter().filter_map(|choice| Some((score(&choice, &reject, &accept)?, choice)));
        choices = rank(judged.collect());
    }
    match Forking::of(request) {
        Forking::Parallel => {}
        Forking::Sequential => {
            for (choice, step) in choices.iter_mut().zip(0..) {
                choice.q = FIRST_RANK.saturating_sub(step);
            }
        }
        Forking::No => choices.truncate(1),
    }
    choices
}

/// One choice each instance; a contact without one is a choice of its own.
fn group(bindings: &[Binding]) -> Vec<Choice<'_>> {
    let mut choices: Vec<Choice<'_>> = Vec::new();
    for binding in bindings {
        let same = |choice: &&mut Choice<'_>| {
            let other = choice.flows.first().and_then(|flow| flow.instance.as_deref());
            other.is_some_and(|instance| binding.is_of_instance(instance))
        };
        match choices.iter_mut().find(same) {
            Some(choice) => choice.flows.push(binding),
            None => choices.push(Choice { q: binding.q, flows: vec![binding] }),
        }
    }
    for choice in &mut choices {
        // Of those of one millisecond the one that was added last.
        choice.flows.reverse();
        choice.flows.sort_by_key(|flow| Reverse(flow.updated_ms));
        choice.q = choice.flows.first().map_or(0, |flow| flow.q);
    }
    choices
}

/// How many contacts at a time (RFC 3841 §9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forking {
    Parallel,
    Sequential,
    No,
}

impl Forking {
    fn of(request: &Message) -> Forking {
        let mut forking = Forking::Parallel;
        for directive in request.values(Header::RequestDisposition) {
            if directive.eq_ignore_ascii_case("no-fork") {
                return Forking::No;
            }
            if directive.eq_ignore_ascii_case("sequential") {
                forking = Forking::Sequential;
            }
        }
        forking
    }
}

/// One value of Accept-Contact or Reject-Contact: terms that must all hold.
struct Predicate {
    terms: Vec<Term>,
    require: bool,
    explicit: bool,
}

struct Term {
    name: String,
    values: Vec<Value>,
}

fn predicates(request: &Message, header: Header) -> Vec<Predicate> {
    request.values(header).take(PREDICATES_MAX).filter_map(Predicate::read).collect()
}

impl Predicate {
    fn read(value: &str) -> Option<Predicate> {
        let mut predicate = Predicate { terms: Vec::new(), require: false, explicit: false };
        // `*` and its parameters; a form of old put a URI there.
        for (name, value) in NameAddr::parse(value).ok()?.params.iter().take(TERMS_MAX) {
            if name.eq_ignore_ascii_case("require") {
                predicate.require = true;
            } else if name.eq_ignore_ascii_case("explicit") {
                predicate.explicit = true;
            } else {
                let name = name.strip_prefix('+').unwrap_or(name).to_ascii_lowercase();
                predicate.terms.push(Term { name, values: values(value.map(|value| value.trim_matches('"'))) });
            }
        }
        Some(predicate)
    }
}

/// One alternative of a feature's value (RFC 3840 §9 `tag-value`).
#[derive(Debug, Clone, PartialEq)]
struct Value {
    negated: bool,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    /// Without regard to case; booleans too.
    Token(String),
    /// In angle brackets, with regard to case.
    Text(String),
    /// From and to.
    Number(f64, f64),
}

impl Value {
    fn read(text: &str) -> Value {
        let (negated, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let number = text.strip_prefix('#').and_then(range);
        let kind = match (number, text.strip_prefix('<')) {
            (Some((from, to)), _) => Kind::Number(from, to),
            (None, Some(inner)) => Kind::Text(inner.strip_suffix('>').unwrap_or(inner).to_owned()),
            (None, None) => Kind::Token(text.to_ascii_lowercase()),
        };
        Value { negated, kind }
    }

    /// Whether both can hold at a time.
    fn meets(&self, other: &Value) -> bool {
        let alike = match (&self.kind, &other.kind) {
            (Kind::Number(from, to), Kind::Number(other_from, other_to)) => from <= other_to && other_from <= to,
            (one, other) => one == other,
        };
        match (self.negated, other.negated) {
            (false, false) => alike,
            (true, false) | (false, true) => !alike,
            (true, true) => true,
        }
    }
}

fn range(text: &str) -> Option<(f64, f64)> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    if let Some(least) = text.strip_prefix(">=") {
        return Some((number(least)?, f64::INFINITY));
    }
    if let Some(most) = text.strip_prefix("<=") {
        return Some((f64::NEG_INFINITY, number(most)?));
    }
    if let Some(exact) = text.strip_prefix('=') {
        return Some((number(exact)?, number(exact)?));
    }
    let (from, to) = text.split_once(':')?;
    Some((number(from)?, number(to)?))
}

fn values(value: Option<&str>) -> Vec<Value> {
    let Some(value) = value else { return vec![Value::read("true")] };
    split_values(value).take(TERMS_MAX).map(Value::read).collect()
}

/// What a contact says of a feature; `None` where it says nothing.
fn said(binding: &Binding, name: &str) -> Option<Vec<Value>> {
    if name == "sip.instance" {
        return binding.instance.as_deref().map(|instance| values(Some(instance.trim_matches('"'))));
    }
    // The base tags are `sip.` tags of RFC 3840 §10 under a shorter name.
    let short = name.strip_prefix("sip.").unwrap_or(name);
    let is_named = |feature: &&Feature| feature.name == name || feature.name == short;
    binding.features.iter().find(is_named).map(|feature| values(feature.value.as_deref()))
}

fn is_met(term: &Term, said: &[Value]) -> bool {
    term.values.iter().any(|wanted| said.iter().any(|has| has.meets(wanted)))
}

/// The implicit preference of a request that names none (§7.2.2): a phone that knows its method and event.
fn is_able(choice: &Choice<'_>, request: &Message) -> bool {
    let Some(binding) = choice.flows.first() else { return false };
    let event = request.header(Header::Event).and_then(|event| event.split(';').next()).map(str::trim);
    let wanted = [("methods", Some(request.method_name())), ("events", event)];
    wanted.into_iter().all(|(name, value)| match (value, said(binding, name)) {
        (Some(value), Some(said)) => {
            said.iter().any(|has| has.meets(&Value { negated: false, kind: Kind::Token(value.to_ascii_lowercase()) }))
        }
        (None, _) | (_, None) => true,
    })
}

/// The caller's preference Qa for a contact, in thousandths (§7.2.4); `None` drops the contact.
fn score(choice: &Choice<'_>, reject: &[Predicate], accept: &[Predicate]) -> Option<u16> {
    let binding = choice.flows.first()?;
    if binding.features.is_empty() && binding.instance.is_none() {
        // Immune: it has said nothing that could be compared.
        return Some(1000);
    }
    let is_rejected = |predicate: &Predicate| {
        !predicate.terms.is_empty()
            && predicate.terms.iter().all(|term| said(binding, &term.name).is_some_and(|said| is_met(term, &said)))
    };
    if reject.iter().any(is_rejected) {
        return None;
    }
    if accept.is_empty() {
        return Some(1000);
    }
    let mut sum = 0;
    let mut counted = 0;
    for predicate in accept {
        let terms = u32::try_from(predicate.terms.len()).unwrap_or(u32::MAX).max(1);
        let mut present = 0;
        let mut is_match = true;
        for term in &predicate.terms {
            if let Some(said) = said(binding, &term.name) {
                present += 1;
                is_match &= is_met(term, &said);
            }
        }
        let complete = predicate.terms.is_empty() || present == terms;
        match (is_match, complete) {
            (false, _) if predicate.require => return None,
            (false, _) => {}
            (true, false) if predicate.explicit && predicate.require => return None,
            (true, false) if predicate.explicit => counted += 1,
            (true, _) => {
                counted += 1;
                sum += if complete { 1000 } else { present * 1000 / terms };
            }
        }
    }
    Some(u16::try_from(sum / counted.max(1)).unwrap_or(1000))
}

/// Orders by the callee's preference, then by the caller's. Where the caller's tells apart what the callee's does not,
/// ranks take the place of `q`.
fn rank(mut judged: Vec<(u16, Choice<'_>)>) -> Vec<Choice<'_>> {
    judged.sort_by_key(|(score, choice)| Reverse((choice.q, *score)));
    let tells_apart = judged.windows(2).any(
        |pair| matches!(pair, [(score, choice), (other_score, other)] if choice.q == other.q && score != other_score),
    );
    if !tells_apart {
        return judged.into_iter().map(|(_, choice)| choice).collect();
    }
    let mut ranked: Vec<Choice<'_>> = Vec::with_capacity(judged.len());
    let mut last = None;
    let mut rank = FIRST_RANK + 1;
    for (score, mut choice) in judged {
        if last != Some((choice.q, score)) {
            last = Some((choice.q, score));
            rank -= 1;
        }
        choice.q = rank;
        ranked.push(choice);
    }
    ranked
}
