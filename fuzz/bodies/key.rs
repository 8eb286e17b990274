//! Keys and their numbers.

use portcullis_core::key::{self, KeyId, Malformed};

/// A text is a key or it is not, and a key with any one byte changed is none.
pub(crate) fn key_text(data: &[u8]) {
    let Ok(parsed) = key::parse(data) else { return };
    let text = std::str::from_utf8(data).expect("a key is ASCII");
    assert!((64..=78).contains(&text.len()));
    let id = parsed.id().to_string();
    assert_eq!(text.split('_').nth(1), Some(id.as_str()));
    assert_eq!(text.split('_').next(), Some(parsed.prefix().as_str()));
    for at in 0..data.len() {
        let mut typo = data.to_vec();
        typo[at] = if typo[at] == b'a' { b'b' } else { b'a' };
        let refused: Result<_, Malformed> = key::parse(&typo);
        assert!(refused.is_err(), "byte {at} is not looked at");
    }
}

/// A number has one spelling, and a spelling one number.
pub(crate) fn base62(data: &[u8]) {
    if let Some(id) = KeyId::from_digits(data) {
        assert_eq!(id.digits().as_slice(), data);
        assert_eq!(KeyId::from_u64(id.as_u64()), id);
    }
    let mut number = [0; 8];
    for (to, from) in number.iter_mut().zip(data) {
        *to = *from;
    }
    let id = KeyId::from_u64(u64::from_le_bytes(number));
    assert_eq!(KeyId::from_digits(&id.digits()), Some(id));
    assert_eq!(id.to_string().parse(), Ok(id));
}
