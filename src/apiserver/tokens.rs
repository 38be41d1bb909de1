//! Tokens of service accounts: JSON Web Tokens that the server signs and reads itself.
//!
//! A token names its account by uid, and may be bound to a pod or a secret, by uid too: it is worth
//! something only while all of these live, whatever its expiry says. Nothing about it is stored. One
//! algorithm is spoken (ES256, the key in `pki/sa.key`), so no header can talk the check into another.
//!
//! [`claims`] is what a token says, in Kubernetes' words; [`Signer`] makes and checks the signature;
//! whether those whom it names live is asked of the registry ([`living`]).

pub(crate) mod claims;
mod living;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    UnparsedPublicKey,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use claims::Claims;
pub(crate) use living::check;

/// Who signs, and for whom unless a request says otherwise.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// Clocks may differ so much.
const LEEWAY: i64 = 10;
/// The longest token that is looked at.
const LIMIT: usize = 16 << 10;
/// What stands before the point in a DER-encoded P-256 public key.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// The key in `pki/sa.key` is none.
#[derive(Debug, thiserror::Error)]
#[error("the key of service account tokens is not a P-256 key in PKCS#8")]
pub struct BadKey;

/// Why a token is worth nothing; for logs and reviews, never for whoever sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejected {
    #[error("it is not a token of this cluster")]
    Foreign,
    #[error("its signature is wrong")]
    Signature,
    #[error("it says nothing that can be read")]
    Claims,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    Early,
    #[error("it is for another audience")]
    Audience,
    #[error("its service account is gone")]
    Account,
    #[error("the object that it was bound to is gone")]
    Bound,
}

/// Signs and checks.
pub(crate) struct Signer {
    key: EcdsaKeyPair,
    random: SystemRandom,
    key_id: String,
}

impl Signer {
    /// Reads the key.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, BadKey> {
        let random = SystemRandom::new();
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| BadKey)?;
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            der.secret_pkcs8_der(),
            &random,
        )
        .map_err(|_| BadKey)?;
        let spki = [&SPKI_PREFIX[..], key.public_key().as_ref()].concat();
        Ok(Self {
            key_id: URL_SAFE_NO_PAD.encode(Sha256::digest(&spki)),
            key,
            random,
        })
    }

    /// The token that says `claims`.
    pub(crate) fn sign(&self, claims: &Claims) -> Result<String, ring::error::Unspecified> {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let body = serde_json::to_vec(claims).expect("plain strings and numbers always encode");
        let text = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(body)
        );
        let signature = self.key.sign(&self.random, text.as_bytes())?;
        Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// What a token of ours says, if it is one, at this time and for one of these audiences.
    pub(crate) fn read(
        &self,
        token: &str,
        audiences: &[String],
        now: Timestamp,
    ) -> Result<Claims, Rejected> {
        if token.len() > LIMIT {
            return Err(Rejected::Foreign);
        }
        let (text, signature) = token.rsplit_once('.').ok_or(Rejected::Foreign)?;
        let (header, body) = text.split_once('.').ok_or(Rejected::Foreign)?;
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Rejected::Foreign);
        let header: Value =
            serde_json::from_slice(&decode(header)?).map_err(|_| Rejected::Foreign)?;
        if header["alg"] != "ES256" || header["kid"] != self.key_id {
            return Err(Rejected::Foreign);
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(text.as_bytes(), &decode(signature)?)
            .map_err(|_| Rejected::Signature)?;
        let claims: Claims =
            serde_json::from_slice(&decode(body)?).map_err(|_| Rejected::Claims)?;
        let now = now.as_second();
        if claims.iss != ISSUER {
            return Err(Rejected::Foreign);
        }
        if claims.exp + LEEWAY < now {
            return Err(Rejected::Expired);
        }
        if claims.nbf - LEEWAY > now {
            return Err(Rejected::Early);
        }
        if !claims.aud.iter().any(|one| audiences.contains(one)) {
            return Err(Rejected::Audience);
        }
        Ok(claims)
    }

    /// The public key, for whoever wants to check tokens without asking.
    pub(crate) fn key_set(&self) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        json!({"keys": [{
            "use": "sig",
            "kty": "EC",
            "kid": self.key_id,
            "crv": "P-256",
            "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x),
            "y": URL_SAFE_NO_PAD.encode(y),
        }]})
    }
}

/// Where the keys are, in OpenID's words.
pub(crate) fn openid_configuration() -> Value {
    json!({
        "issuer": ISSUER,
        "jwks_uri": format!("{ISSUER}/openid/v1/jwks"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    })
}

#[cfg(test)]
mod tests;
