//! What a REGISTER asks for one contact, and how it is carried out on the bindings (RFC 3261 §10.3 item 7).

use super::{
    Binding, Limits, Rejection, checked_uri, features, granted, instance, outbound_flow, preference, user_agent,
};
use crate::message::{Message, NameAddr, Uri};
use crate::transport::Flow;

/// What one contact of a REGISTER asks for, checked.
pub(super) struct Change<'a> {
    contact: NameAddr<'a>,
    uri: Uri<'a>,
    instance: Option<&'a str>,
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
        let seconds = granted(limits, contact, expires)?;
        let instance = instance(contact);
        let reg_id = if instance.is_some() { outbound_flow(contact, request)? } else { None };
        Ok(Change { contact: *contact, uri, instance, reg_id, seconds })
    }

    /// Whether this is the binding that the contact replaces.
    pub(super) fn is_for(&self, binding: &Binding) -> bool {
        match (self.instance, self.reg_id) {
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
        if binding.instance.as_deref() != change.instance {
            binding.instance = change.instance.map(str::to_owned);
        }
        self.path.clone_into(&mut binding.path);
        binding.features = features(&change.contact);
        binding.q = preference(&change.contact);
        binding.expires_ms = self.now_ms.saturating_add(u64::from(change.seconds) * 1000);
        binding.cseq = self.cseq;
        binding.flow.clone_from(self.flow);
        binding.updated_ms = self.now_ms;
        binding.reg_id = change.reg_id;
    }
}
