//! Tokens that are ours, and tokens that only look so.

use super::claims::{Cluster, Named};
use super::*;

fn signer() -> Signer {
    Signer::from_pem(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap()
}

fn claims() -> Claims {
    Claims {
        aud: vec![ISSUER.to_owned()],
        exp: 2000,
        iat: 1000,
        iss: ISSUER.to_owned(),
        jti: "1".to_owned(),
        cluster: Cluster {
            namespace: "ns".to_owned(),
            node: None,
            pod: None,
            secret: None,
            serviceaccount: Named {
                name: "a".to_owned(),
                uid: "u".to_owned(),
            },
        },
        nbf: 1000,
        sub: "system:serviceaccount:ns:a".to_owned(),
    }
}

#[test]
fn a_token_is_read_in_its_time_by_its_audience() {
    let signer = signer();
    let token = signer.sign(&claims()).unwrap();
    let read = |audience: &str, now: i64| {
        let now = Timestamp::from_second(now).unwrap();
        signer.read(&token, &[audience.to_owned()], now)
    };
    assert_eq!(read(ISSUER, 1500), Ok(claims()));
    assert_eq!(read(ISSUER, 2011), Err(Rejected::Expired));
    assert_eq!(read(ISSUER, 989), Err(Rejected::Early));
    assert_eq!(read("vault", 1500), Err(Rejected::Audience));
}

#[test]
fn what_was_not_signed_here_is_foreign() {
    let (signer, other) = (signer(), signer());
    let now = Timestamp::from_second(1500).unwrap();
    let read = |token: &str| signer.read(token, &[ISSUER.to_owned()], now).unwrap_err();
    assert_eq!(read(&other.sign(&claims()).unwrap()), Rejected::Foreign);
    let token = signer.sign(&claims()).unwrap();
    let parts: Vec<&str> = token.split('.').collect();
    let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    // Another body, another algorithm, none at all.
    let mut changed = claims();
    changed.sub = "system:serviceaccount:kube-system:admin".to_owned();
    let body = encode(json!(changed));
    assert_eq!(
        read(&format!("{}.{body}.{}", parts[0], parts[2])),
        Rejected::Signature
    );
    for alg in ["none", "HS256", "es256"] {
        let header = encode(json!({"alg": alg, "kid": signer.key_id}));
        assert_eq!(
            read(&format!("{header}.{}.{}", parts[1], parts[2])),
            Rejected::Foreign
        );
        assert_eq!(read(&format!("{header}.{}.", parts[1])), Rejected::Foreign);
    }
    for nonsense in ["", ".", "..", "a.b", "a.b.c", &".".repeat(LIMIT + 1)] {
        assert_eq!(read(nonsense), Rejected::Foreign);
    }
}

#[test]
fn the_key_is_published_as_a_point() {
    let keys = signer().key_set();
    let key = &keys["keys"][0];
    for coordinate in ["x", "y"] {
        let bytes = URL_SAFE_NO_PAD.decode(key[coordinate].as_str().unwrap());
        assert_eq!(bytes.unwrap().len(), 32);
    }
    assert_eq!(key["alg"], "ES256");
}
