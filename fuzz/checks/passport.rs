//! PASSporTs: what is read means the same when it is stated again.

use meshtone_identity::dangerous_deterministic::DangerousSigner;
use meshtone_identity::passport::SignedPassport;
use meshtone_identity::{Error, PublicKey, Signature, Signer, Verifier};

/// Believes everybody: signatures are not what is looked at.
struct Credulous;

impl Verifier for Credulous {
    fn verify(&self, _: &PublicKey, _: &[u8], _: &Signature) -> Result<(), Error> {
        Ok(())
    }
}

/// Runs the check; it panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(passport) = SignedPassport::read(text) else { return };
    let signer = DangerousSigner::new(1);
    let claims = passport.verify(signer.public_key(), &Credulous).expect("everybody is believed");
    let again = claims.sign(passport.x5u(), &signer).expect("what was read can be stated");
    let read = SignedPassport::read(&again).expect("what is stated can be read");
    assert_eq!(read.x5u(), passport.x5u());
    assert_eq!(read.verify(signer.public_key(), &Credulous), Ok(claims));
}
