//! Big-endian base62 numbers of fixed width. The digits ascend in ASCII, so comparing two texts of
//! one width as bytes compares the numbers: that is how widths are checked without big arithmetic.

use super::{CRC_LEN, ID_LEN, SECRET_LEN};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const NOT_A_DIGIT: u8 = 0xff;

/// Value of each byte as a digit, [`NOT_A_DIGIT`] for the rest.
static VALUES: [u8; 256] = {
    let mut values = [NOT_A_DIGIT; 256];
    let mut value = 0;
    while value < 62 {
        values[DIGITS[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// 2^64 - 1 as digits.
const MAX_ID: &[u8; ID_LEN] = b"LygHa16AHYF";
/// 2^256 - 1 as digits.
const MAX_SECRET: &[u8; SECRET_LEN] = b"yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1";

/// Whether every byte is a base62 digit.
pub(super) fn all_digits(text: &[u8]) -> bool {
    // Comparisons instead of the table, and no early exit: this becomes a few vector instructions,
    // and keys are mostly valid.
    text.iter().fold(true, |good, &byte| {
        let digit = byte.wrapping_sub(b'0') < 10;
        let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        good & (digit | letter)
    })
}

/// Reads a key id; `None` unless it is 11 digits of a number that fits 64 bits.
pub(super) fn decode_id(text: &[u8]) -> Option<u64> {
    let digits: &[u8; ID_LEN] = text.try_into().ok()?;
    (all_digits(digits) && digits <= MAX_ID).then(|| decode(digits))
}

/// Reads a checksum; `None` unless it is 6 digits of a number that fits 32 bits.
pub(super) fn decode_crc(text: &[u8]) -> Option<u32> {
    let digits: &[u8; CRC_LEN] = text.try_into().ok()?;
    if all_digits(digits) { u32::try_from(decode(digits)).ok() } else { None }
}

/// Whether 43 digits are a number that fits 256 bits.
pub(super) fn secret_fits(digits: &[u8; SECRET_LEN]) -> bool {
    digits <= MAX_SECRET
}

/// The number as 11 digits.
pub(super) fn encode_u64(mut number: u64) -> [u8; ID_LEN] {
    let mut digits = [b'0'; ID_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = digit_of(number % 62);
        number /= 62;
    }
    digits
}

/// The number as 6 digits.
pub(super) fn encode_crc(number: u32) -> [u8; CRC_LEN] {
    let mut rest = u64::from(number);
    let mut digits = [b'0'; CRC_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = digit_of(rest % 62);
        rest /= 62;
    }
    digits
}

/// The big-endian 256-bit number as 43 digits, by long division.
pub(super) fn encode_secret(number: &[u8; 32]) -> [u8; SECRET_LEN] {
    let mut number = *number;
    let mut digits = [b'0'; SECRET_LEN];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0u32;
        for byte in &mut number {
            let dividend = (remainder << 8) | u32::from(*byte);
            *byte = u8::try_from(dividend / 62).unwrap_or(u8::MAX);
            remainder = dividend % 62;
        }
        *digit = digit_of(u64::from(remainder));
    }
    digits
}

fn decode(digits: &[u8]) -> u64 {
    digits.iter().fold(0u64, |number, &digit| {
        number.wrapping_mul(62).wrapping_add(u64::from(VALUES[usize::from(digit)]))
    })
}

fn digit_of(value: u64) -> u8 {
    DIGITS.get(usize::try_from(value).unwrap_or(0)).copied().unwrap_or(b'0')
}
