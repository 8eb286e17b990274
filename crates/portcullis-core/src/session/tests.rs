use super::*;
use crate::entropy::EntropyFailure;
use crate::key::KeyId;

/// 2026-11-22T00:00:00Z, in seconds.
const NOW_S: u64 = 1_795_305_600;
const ISS: &str = "https://control.example.com";

fn now() -> WallMs {
    WallMs(NOW_S * 1000)
}

fn signer() -> SessionSigner {
    SessionSigner::from_seed(SignerAlg::EdDsa, &[3; 32]).expect("a seed")
}

fn rs256() -> SessionSigner {
    SessionSigner::from_pkcs8(include_str!("test-keys/rs256.pem")).expect("an RSA key")
}

/// The same byte again and again.
struct Same(u8);

impl Entropy for Same {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
        out.fill(self.0);
        Ok(())
    }
}

fn sign(by: &SessionSigner, claims: &Claims) -> Zeroizing<String> {
    by.sign(claims, &Same(1)).expect("a signature")
}

fn signature_of(by: &SessionSigner, text: &str) -> Vec<u8> {
    by.signature_of(text.as_bytes(), &Same(1)).expect("a signature")
}

fn verifier_of(signer: &SessionSigner) -> Verifier {
    let record = json!({"alg": signer.alg(), "public": signer.public(), "iss": ISS, "aud": ISS});
    let record = serde_json::from_value(record).expect("a signer's record");
    Verifier::of_record(signer.kid(), &record).expect("a usable record")
}

fn claims() -> Claims {
    Claims {
        iss: ISS.into(),
        aud: vec![ISS.into()],
        sub: "sa1".into(),
        org_id: "o1".into(),
        key_id: KeyId::from_u64(7),
        key_gen: 2,
        mode: Mode::Bound,
        scope: None,
        iat_s: NOW_S,
        exp_s: NOW_S + 3600,
        jti: "j1".into(),
    }
}

fn verdict(text: &[u8], at: WallMs) -> Result<Claims, DenyReason> {
    let token = Token::parse(text).map_err(|_| DenyReason::TokenInvalid)?;
    token.verify(&verifier_of(&signer()), at)
}

/// A token whose header and claims are these texts, properly signed.
fn forged(header: &str, payload: &str) -> String {
    let mut text =
        format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = signature_of(&signer(), &text);
    text.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut text);
    text
}

fn header() -> String {
    json!({"alg": "EdDSA", "kid": signer().kid(), "typ": TYP}).to_string()
}

#[test]
fn a_token_says_what_it_was_given_to_say() {
    let patterns = ["cluster:read", "*:execute"].map(|text| text.parse().expect("a pattern"));
    for claims in [
        claims(),
        Claims { mode: Mode::Detached, aud: vec![ISS.into(), "r1".into()], ..claims() },
        Claims { scope: Some(patterns.to_vec()), ..claims() },
    ] {
        let text = sign(&signer(), &claims);
        assert!(text.starts_with(BEGINNING));
        assert_eq!(verdict(text.as_bytes(), now()), Ok(claims));
    }
}

#[test]
fn the_kid_is_the_thumbprint_of_rfc_8037() {
    // Appendix A.3 of the RFC.
    let thumb = thumbprint(&json!({
        "crv": "Ed25519", "kty": "OKP", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    }));
    assert_eq!(thumb, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn s1_no_other_algorithm_and_no_further_header_passes() {
    let payload = claims().to_json().to_string();
    let kid = signer().kid().to_owned();
    assert!(verdict(forged(&header(), &payload).as_bytes(), now()).is_ok());
    for bad in [
        json!({"alg": "none", "kid": kid, "typ": TYP}),
        json!({"alg": "HS256", "kid": kid, "typ": TYP}),
        json!({"alg": "ES256", "kid": kid, "typ": TYP}),
        json!({"alg": "Ed25519", "kid": kid, "typ": TYP}),
        json!({"alg": "eddsa", "kid": kid, "typ": TYP}),
        json!({"alg": "EdDSA", "kid": kid, "typ": TYP, "crit": []}),
        json!({"alg": "EdDSA", "kid": kid, "typ": TYP, "b64": false}),
        json!({"alg": "EdDSA", "kid": kid, "typ": TYP, "enc": "A256GCM"}),
        json!({"alg": "EdDSA", "kid": kid, "typ": "JWT"}),
        json!({"alg": "EdDSA", "kid": kid}),
        json!({"alg": "EdDSA", "typ": TYP}),
        json!(["EdDSA"]),
    ] {
        let text = forged(&bad.to_string(), &payload);
        assert_eq!(verdict(text.as_bytes(), now()), Err(DenyReason::TokenInvalid), "{bad}");
    }
    let doubled = format!(r#"{{"alg":"none","alg":"EdDSA","kid":"{kid}","typ":"at+jwt"}}"#);
    assert!(verdict(forged(&doubled, &payload).as_bytes(), now()).is_err());
    // Signatures of nothing: zeros, the neutral element, none at all.
    let good = sign(&signer(), &claims());
    let body = good.rsplit_once('.').expect("three parts").0;
    for signature in [[0_u8; 64].to_vec(), [&[1][..], &[0; 63]].concat(), Vec::new()] {
        let text = format!("{body}.{}", URL_SAFE_NO_PAD.encode(signature));
        assert!(verdict(text.as_bytes(), now()).is_err());
    }
    let five = format!("{}.e30.e30", *good);
    assert!(verdict(five.as_bytes(), now()).is_err());
}

#[test]
fn s2_a_key_is_found_by_its_name_alone() {
    let payload = claims().to_json().to_string();
    let kid = signer().kid().to_owned();
    for bad in [
        json!({"alg": "EdDSA", "kid": kid, "typ": TYP, "jku": "https://evil.example/jwks"}),
        json!({"alg": "EdDSA", "kid": kid, "typ": TYP, "x5u": "https://evil.example/c"}),
        json!({"alg": "EdDSA", "kid": kid, "typ": TYP, "jwk": signer().jwk()}),
        json!({"alg": "EdDSA", "kid": "../../dev/null", "typ": TYP}),
        json!({"alg": "EdDSA", "kid": "' OR 1=1 --", "typ": TYP}),
        json!({"alg": "EdDSA", "kid": 7, "typ": TYP}),
    ] {
        let text = forged(&bad.to_string(), &payload);
        assert_eq!(verdict(text.as_bytes(), now()), Err(DenyReason::TokenInvalid), "{bad}");
    }
    // Another key's signature under our key's name.
    let other = SessionSigner {
        kid,
        ..SessionSigner::from_seed(SignerAlg::EdDsa, &[4; 32]).expect("a seed")
    };
    assert!(verdict(sign(&other, &claims()).as_bytes(), now()).is_err());
}

#[test]
fn s3_every_claim_is_there_once_and_of_its_type() {
    let good = claims().to_json();
    let with = |name: &str, value: Value| {
        let mut json = good.clone();
        json[name] = value;
        forged(&header(), &json.to_string())
    };
    for (name, values) in [
        ("exp", vec![json!("9999999999"), json!(1.5e9), json!(null), json!(u64::MAX), json!([1])]),
        ("iat", vec![json!("1"), json!(1.5), json!(null), json!(-1)]),
        ("nbf", vec![json!(1), json!("1"), json!(null)]),
        ("key_gen", vec![json!("2"), json!(-1), json!(1_u64 << 40)]),
        ("mode", vec![json!("free"), json!(true)]),
        (
            "aud",
            vec![json!([]), json!([1]), json!(""), json!(null), json!({}), json!(vec!["a"; 9])],
        ),
        ("key_id", vec![json!("short"), json!(7), json!("00000000008")]),
        (
            "scope",
            vec![json!(""), json!("a b"), json!(["cluster:read"]), json!("cluster:read  a:b")],
        ),
        ("cnf", vec![json!({"jkt": "x"})]),
        ("sub", vec![json!(""), json!(null)]),
    ] {
        for value in values {
            let shown = format!("{name} = {value}");
            let text = with(name, value);
            assert_eq!(verdict(text.as_bytes(), now()), Err(DenyReason::TokenInvalid), "{shown}");
        }
    }
    for name in good.as_object().expect("an object").keys() {
        let mut json = good.clone();
        json.as_object_mut().expect("an object").remove(name);
        let text = forged(&header(), &json.to_string());
        assert_eq!(verdict(text.as_bytes(), now()), Err(DenyReason::TokenInvalid), "no {name}");
    }
    let twice = good.to_string().replacen('{', r#"{"exp":9999999999,"#, 1);
    assert!(verdict(forged(&header(), &twice).as_bytes(), now()).is_err());
}

#[test]
fn s4_tokens_for_others_are_refused() {
    let aud = |aud: &str| sign(&signer(), &Claims { aud: vec![aud.into()], ..claims() });
    assert_eq!(verdict(aud("r1").as_bytes(), now()), Err(DenyReason::Audience));
    assert_eq!(verdict(aud(&format!("{ISS}/")).as_bytes(), now()), Err(DenyReason::Audience));
    let iss = sign(&signer(), &Claims { iss: "https://else.example.com".into(), ..claims() });
    assert_eq!(verdict(iss.as_bytes(), now()), Err(DenyReason::TokenInvalid));
}

#[test]
fn s7_a_token_is_short_and_flat() {
    let long = Claims { sub: "a".repeat(LONGEST).into(), ..claims() };
    assert!(Token::parse(sign(&signer(), &long).as_bytes()).is_err());
    let deep = format!(r#"{{"sub":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    assert!(verdict(forged(&header(), &deep).as_bytes(), now()).is_err());
    for text in ["", "eyJ", "eyJ.e.e", "..", "a.b", "e30.e30.", "eyJhbGciOiJub25lIn0.e30."] {
        assert!(Token::parse(text.as_bytes()).is_err(), "{text}");
    }
    // Padding, blanks and the other alphabet are other texts.
    let good = sign(&signer(), &claims());
    for text in [format!("{}=", *good), format!(" {}", *good), good.replace('-', "+") + "+"] {
        assert!(verdict(text.as_bytes(), now()).is_err());
    }
}

#[test]
fn s9_no_leeway_but_five_seconds_on_the_beginning() {
    let at = |iat_s: u64, exp_s: u64| sign(&signer(), &Claims { iat_s, exp_s, ..claims() });
    let end_ms = (NOW_S + 60) * 1000;
    let short = at(NOW_S, NOW_S + 60);
    assert!(verdict(short.as_bytes(), WallMs(end_ms - 1)).is_ok());
    assert_eq!(verdict(short.as_bytes(), WallMs(end_ms)), Err(DenyReason::TokenExpired));
    assert!(verdict(at(NOW_S + 5, NOW_S + 60).as_bytes(), now()).is_ok());
    let early = verdict(at(NOW_S + 6, NOW_S + 60).as_bytes(), now());
    assert_eq!(early, Err(DenyReason::TokenInvalid));
    // No life that is longer than an hour, empty, or runs backwards.
    for (iat_s, exp_s) in [(NOW_S, NOW_S + 3601), (NOW_S, NOW_S), (NOW_S, NOW_S - 1)] {
        assert!(verdict(at(iat_s, exp_s).as_bytes(), now()).is_err());
    }
}

#[test]
fn a_key_that_is_no_longer_to_be_used_verifies_nothing() {
    let by = Verifier { not_after: Some(now()), ..verifier_of(&signer()) };
    let text = sign(&signer(), &claims());
    let token = Token::parse(text.as_bytes()).expect("a token");
    assert_eq!(token.verify(&by, now()), Err(DenyReason::TokenInvalid));
    assert!(token.verify(&by, WallMs(now().0 - 1)).is_ok());
}

#[test]
fn a_signer_s_record_must_hold_a_key() {
    for public in ["", "AA", &URL_SAFE_NO_PAD.encode([0; 32]), &"A".repeat(44)] {
        let record = json!({"alg": "EdDSA", "public": public, "iss": ISS, "aud": ISS});
        let record = serde_json::from_value(record).expect("the members are there");
        assert!(Verifier::of_record("k", &record).is_err(), "{public}");
    }
    let unknown = json!({"alg": "HS256", "public": signer().public(), "iss": ISS, "aud": ISS});
    assert!(serde_json::from_value::<SignerRecord>(unknown).is_err());
}

#[test]
fn every_signer_is_verified_by_its_own_algorithm_and_no_other() {
    let signer = SessionSigner::from_seed(SignerAlg::Es256, &[3; 32]).expect("a scalar");
    let text = sign(&signer, &claims());
    let token = Token::parse(text.as_bytes()).expect("a token");
    let verifier = verifier_of(&signer);
    assert_eq!(token.verify(&verifier, now()), Ok(claims()));
    let jwk = signer.jwk();
    assert_eq!(
        (&jwk["kty"], &jwk["crv"], &jwk["alg"]),
        (&json!("EC"), &json!("P-256"), &json!("ES256"))
    );
    assert_eq!(jwk["x"].as_str().map(str::len), Some(43));
    assert_eq!(jwk["y"].as_str().map(str::len), Some(43));

    // The header says one algorithm, the record of that kid another: nothing passes, whoever signed.
    let payload = text.split('.').nth(1).expect("claims");
    let confused = |alg: &str, by: &SessionSigner, kid: &str| {
        let header = json!({"alg": alg, "kid": kid, "typ": TYP}).to_string();
        let mut text = format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header));
        let signature = signature_of(by, &text);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut text);
        text
    };
    let other = SessionSigner::from_seed(SignerAlg::EdDsa, &[3; 32]).expect("a seed");
    let verdict = |text: String, by: &SessionSigner| {
        let token = Token::parse(text.as_bytes()).map_err(|_| DenyReason::TokenInvalid)?;
        token.verify(&verifier_of(by), now())
    };
    let rsa = rs256();
    for by in [&signer, &other, &rsa] {
        for made_by in [&signer, &other, &rsa] {
            for alg in ["EdDSA", "ES256", "none", "HS256", "RS256", "es256"] {
                let right = alg == by.alg().as_str() && made_by.alg() == by.alg();
                let expected = if right { Ok(claims()) } else { Err(DenyReason::TokenInvalid) };
                assert_eq!(verdict(confused(alg, made_by, by.kid()), by), expected, "{alg}");
            }
        }
    }
    for public in [signer.public()[1..].to_owned(), other.public(), String::new()] {
        let record = json!({"alg": "ES256", "public": public, "iss": ISS, "aud": ISS});
        let record = serde_json::from_value(record).expect("a record");
        assert!(Verifier::of_record("k", &record).is_err());
    }
    assert!(SessionSigner::from_seed(SignerAlg::Es256, &[0; 32]).is_none());
    assert!(SessionSigner::from_seed(SignerAlg::Es256, &[255; 32]).is_none());
}

#[test]
fn an_rs256_signature_is_what_everybody_makes_of_the_key_and_the_text() {
    let signer = rs256();
    let jwk = signer.jwk();
    assert_eq!(
        (&jwk["kty"], &jwk["alg"], &jwk["e"], &jwk["n"]),
        (&json!("RSA"), &json!("RS256"), &json!("AQAB"), &json!(signer.public()))
    );
    assert_eq!(signer.public().len(), 342);
    // openssl dgst -sha256 -sign rs256.pem
    let known = "bgHmoHifPPJMDeiuI0R4DvzQvnc_cifOWhpVn6cpTS6ul3ljnGHXKP3kJjPqcZNQlj8q9kgz5nNnDCULJ0LCnjtbGi04RtNeP2auePNn70sUgtVenQnYwua089NkBANejm7rZguBAmS9AzO7RckCTm43f91n-JpIydPxhoBEmVwoa4miBBH4gAAcn0OIOzqwv3vG1hJ-iAajfIZPQepx7QjZU2_v8NaUxYrnHoU5nqCIoybaFrMw3TSnrrRKpVi9DhVEGzDATgx2NuzjvGbEIbmHYgFVRjGWoh-QtogtbbG7fNZZGTnmGDHNZoR6YvLSwW0gFPgsjdhTeamejfaGrw";
    for chance in [1, 0x5a] {
        let made = signer.signature_of(b"header.claims", &Same(chance)).expect("a signature");
        assert_eq!(URL_SAFE_NO_PAD.encode(made), known);
    }
    let text = sign(&signer, &claims());
    let token = Token::parse(text.as_bytes()).expect("a token");
    assert_eq!(token.verify(&verifier_of(&signer), now()), Ok(claims()));
}

#[test]
fn rs256_signs_nothing_without_chance_to_blind_it() {
    struct None;
    impl Entropy for None {
        fn fill(&self, _: &mut [u8]) -> Result<(), EntropyFailure> {
            Err(EntropyFailure)
        }
    }
    assert!(rs256().sign(&claims(), &None).is_none());
    assert!(signer().sign(&claims(), &None).is_some(), "the others need no chance");
}

#[test]
fn only_rsa_keys_of_the_usual_sizes_and_exponent_sign_or_verify() {
    for unusual in [
        include_str!("test-keys/short.pem"),
        include_str!("test-keys/exponent-3.pem"),
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "",
    ] {
        assert!(SessionSigner::from_pkcs8(unusual).is_none());
    }
    assert!(SessionSigner::from_seed(SignerAlg::Rs256, &[3; 32]).is_none());
    let modulus = URL_SAFE_NO_PAD.decode(rs256().public()).expect("base64url");
    let mut even = modulus.clone();
    *even.last_mut().expect("a byte") &= 0xfe;
    let mut short = modulus.clone();
    *short.first_mut().expect("a byte") &= 0x7f;
    let padded = [&[0], &*modulus].concat();
    let long = [0xff; 513];
    for modulus in [&even, &short, &padded, &long[..], &modulus[1..], &[]] {
        let public = URL_SAFE_NO_PAD.encode(modulus);
        let record = json!({"alg": "RS256", "public": public, "iss": ISS, "aud": ISS});
        let record = serde_json::from_value(record).expect("a record");
        assert!(Verifier::of_record("k", &record).is_err(), "{public}");
    }
}
