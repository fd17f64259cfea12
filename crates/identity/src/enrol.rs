//! The requests of new nodes and users for their certificates: PKCS#10 (RFC 2986), signed with the key they ask a certificate for.
//!
//! What is to be certified besides stands in the request as the one URI of its subject alternative names, the form it will have in
//! the certificate: a node's link key, a user's address.

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DistinguishedName, SanType};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::prelude::FromDer;

use crate::authority::encode;
use crate::certificate::{LINK_URI, USER_URI};
use crate::x509::{Extensions, MAX_DER, X509Signer, check_envelope, names, read_key, read_signature};
use crate::{Error, Es256, LinkKey, PublicKey, Signer, Verifier, address};

const REQUEST: &str = "certification request";

/// A request whose sender has proved to hold the key in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolRequest {
    public_key: PublicKey,
    link_key: LinkKey,
}

impl EnrolRequest {
    /// Writes a request for this key and link key.
    ///
    /// # Errors
    /// [`Error::PrivateKey`], [`Error::Encode`].
    pub fn encode(signer: &dyn Signer, link_key: LinkKey) -> Result<Vec<u8>, Error> {
        write(signer, &format!("{LINK_URI}{link_key}"))
    }

    /// Reads a request and checks the proof of possession.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::Signature`] when the sender does not hold the key.
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        let (public_key, [link_key]) = read(der, [LINK_URI])?;
        let link_key = link_key.parse().map_err(|_| malformed("its link key cannot be read"))?;
        Ok(Self { public_key, link_key })
    }

    /// Returns the key to be certified.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Returns the key under which the node will be dialled. The link it arrived on has to be that of this key.
    pub fn link_key(&self) -> LinkKey {
        self.link_key
    }
}

/// The request of somebody who wants a key certified for an address. He has proved to hold the key; the address is only said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRequest {
    public_key: PublicKey,
    address: String,
}

impl UserRequest {
    /// Writes a request for this key and address.
    ///
    /// # Errors
    /// [`Error::Text`], [`Error::Domain`], [`Error::PrivateKey`], [`Error::Encode`].
    pub fn encode(signer: &dyn Signer, address: &str) -> Result<Vec<u8>, Error> {
        write(signer, &format!("{USER_URI}{}", address::normalise(address)?))
    }

    /// Reads a request and checks the proof of possession.
    ///
    /// # Errors
    /// [`Error::Malformed`]; [`Error::Signature`] when the sender does not hold the key.
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        let (public_key, [address]) = read(der, [USER_URI])?;
        if address::normalise(&address).ok().as_ref() != Some(&address) {
            return Err(malformed("its address is not in the one written form"));
        }
        Ok(Self { public_key, address })
    }

    /// Returns the key to be certified.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// Returns the address that the key shall belong to, in its one written form.
    pub fn address(&self) -> &str {
        &self.address
    }
}

fn malformed(why: &'static str) -> Error {
    Error::Malformed { what: REQUEST, why }
}

/// Writes a request for this key, with one name.
fn write(signer: &dyn Signer, uri: &str) -> Result<Vec<u8>, Error> {
    let uri = Ia5String::try_from(uri).map_err(|error| encode(REQUEST, &error))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(uri)];
    let request = params.serialize_request(&X509Signer(signer)).map_err(|error| encode(REQUEST, &error))?;
    Ok(request.der().to_vec())
}

/// Reads a request, checks that its sender holds the key, and returns what follows each prefix in its names.
fn read<const N: usize>(der: &[u8], prefixes: [&str; N]) -> Result<(PublicKey, [String; N]), Error> {
    if der.len() > MAX_DER {
        return Err(malformed("larger than 4 KiB"));
    }
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| malformed("not PKCS#10"))?;
    if !rest.is_empty() {
        return Err(malformed("bytes after its end"));
    }
    let signature = read_signature(REQUEST, &request.signature_algorithm, &request.signature_value)?;
    let info = request.certification_request_info;
    let public_key = read_key(REQUEST, &info.subject_pki)?;
    check_envelope(REQUEST, der, info.raw, &signature)?;
    Es256.verify(&public_key, info.raw, &signature)?;
    let [attribute] = info.attributes() else {
        return Err(malformed("not exactly one attribute"));
    };
    let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else {
        return Err(malformed("an attribute that asks for no extension"));
    };
    let extensions = Extensions::read(REQUEST, &requested.extensions)?;
    let names = names(REQUEST, &extensions.uris, prefixes)?.map(str::to_owned);
    Ok((public_key, names))
}
