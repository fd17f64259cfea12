//! What a REGISTER asks for one contact, and how it is carried out on the bindings (RFC 3261 §10.3 item 7).

use super::{
    Binding, INSTANCE_LEN_MAX, Limits, Rejection, checked_uri, features, granted, outbound_flow, preference, user_agent,
};
use crate::message::{Message, NameAddr, Uri};
use crate::transport::Flow;

/// The parameters of a contact that a registrar goes by, each as it is written where it comes first; read in one pass.
#[derive(Default)]
pub(super) struct ContactParams<'a> {
    pub(super) expires: Option<Option<&'a str>>,
    pub(super) q: Option<&'a str>,
    pub(super) reg_id: Option<Option<&'a str>>,
    /// `None` also where it is longer than what is kept.
    pub(super) instance: Option<&'a str>,
    /// Whether there are others, which may say what the phone can do.
    has_others: bool,
}

impl<'a> ContactParams<'a> {
    pub(super) fn read(contact: &NameAddr<'a>) -> ContactParams<'a> {
        let mut read = ContactParams::default();
        let (mut q, mut instance) = (None, None);
        for (name, value) in contact.params.iter() {
            if name.eq_ignore_ascii_case("expires") {
                read.expires.get_or_insert(value);
            } else if name.eq_ignore_ascii_case("q") {
                q.get_or_insert(value);
            } else if name.eq_ignore_ascii_case("reg-id") {
                read.reg_id.get_or_insert(value);
            } else if name.eq_ignore_ascii_case("+sip.instance") {
                instance.get_or_insert(value);
            } else {
                read.has_others = true;
            }
        }
        read.q = q.flatten();
        read.instance = instance.flatten().filter(|instance| instance.len() <= INSTANCE_LEN_MAX);
        read
    }
}

/// What one contact of a REGISTER asks for, checked.
pub(super) struct Change<'a> {
    contact: NameAddr<'a>,
    params: ContactParams<'a>,
    uri: Uri<'a>,
    /// Only where a flow is kept.
    pub(super) reg_id: Option<u32>,
    /// The interval granted; 0 removes the binding.
    pub(super) seconds: u32,
}

impl<'a> Change<'a> {
    pub(super) fn read(
        limits: &Limits,
        contact: &NameAddr<'a>,
        expires: Option<u32>,
        request: &Message,
    ) -> Result<Change<'a>, Rejection> {
        let uri = checked_uri(contact, request)?;
        let params = ContactParams::read(contact);
        let seconds = granted(limits, params.expires, expires)?;
        let reg_id = outbound_flow(&params, request)?;
        Ok(Change { contact: *contact, params, uri, reg_id, seconds })
    }

    /// Whether this is the binding that the contact replaces.
    pub(super) fn is_for(&self, binding: &Binding) -> bool {
        match (self.params.instance, self.reg_id) {
            (Some(instance), Some(_)) => binding.reg_id == self.reg_id && binding.is_of_instance(instance),
            // Nearly always it is spelled as before.
            _ if binding.contact == self.contact.uri => true,
            _ => Uri::parse(&binding.contact).is_ok_and(|known| known.equivalent(&self.uri)),
        }
    }
}

/// What all contacts of a REGISTER have in common.
pub(super) struct Update<'a> {
    pub(super) now_ms: u64,
    pub(super) request: &'a Message,
    pub(super) cseq: u32,
    pub(super) flow: &'a Flow,
    pub(super) path: &'a Vec<String>,
}

impl Update<'_> {
    /// Drops what has run out and carries out the changes in their order; says whether anything changed.
    pub(super) fn apply(&self, bindings: &mut Vec<Binding>, changes: &[Change<'_>]) -> bool {
        let before = bindings.len();
        bindings.retain(|binding| binding.expires_ms > self.now_ms);
        let mut changed = bindings.len() != before;
        for change in changes {
            let mut place = bindings.iter().position(|binding| change.is_for(binding));
            if let Some(binding) = place.filter(|_| change.seconds > 0).and_then(|place| bindings.get_mut(place)) {
                self.write(change, binding);
            } else if change.seconds > 0 {
                place = Some(bindings.len());
                let mut binding = Binding::blank(self.flow.clone());
                self.write(change, &mut binding);
                bindings.push(binding);
            }
            changed |= place.is_some();
            // All others that are meant go, where one contact stands for several.
            let mut index = 0;
            bindings.retain(|binding| {
                let is_kept = (change.seconds > 0 && Some(index) == place) || !change.is_for(binding);
                index += 1;
                is_kept
            });
        }
        changed
    }

    /// Writes what a contact asks for into its binding, over the texts that are there: those of a phone seldom change.
    fn write(&self, change: &Change<'_>, binding: &mut Binding) {
        change.contact.uri.clone_into(&mut binding.contact);
        self.request.call_id().clone_into(&mut binding.call_id);
        user_agent(self.request).clone_into(&mut binding.user_agent);
        if binding.instance.as_deref() != change.params.instance {
            binding.instance = change.params.instance.map(str::to_owned);
        }
        self.path.clone_into(&mut binding.path);
        binding.features = if change.params.has_others { features(&change.contact) } else { Vec::new() };
        binding.q = preference(change.params.q);
        binding.expires_ms = self.now_ms.saturating_add(u64::from(change.seconds) * 1000);
        binding.cseq = self.cseq;
        binding.flow.clone_from(self.flow);
        binding.updated_ms = self.now_ms;
        binding.reg_id = change.reg_id;
    }
}
