//! Short-lived header values without an allocation each: they are written one behind the other
//! into blocks that are freed when the last value in them is. Holds nothing that lives longer than
//! its request, for one value keeps a whole block.

use std::cell::RefCell;

use bytes::BytesMut;
use http::HeaderValue;

/// Size of a block: the values of about ten requests.
const BLOCK: usize = 4096;

/// One worker's blocks.
#[derive(Default)]
pub(crate) struct Texts(RefCell<BytesMut>);

impl Texts {
    /// A header value with these bytes; `None` if no header value has them.
    pub(crate) fn value(&self, bytes: &[u8]) -> Option<HeaderValue> {
        let mut block = self.0.borrow_mut();
        if block.capacity() < bytes.len() {
            *block = BytesMut::with_capacity(BLOCK.max(bytes.len()));
        }
        block.extend_from_slice(bytes);
        HeaderValue::from_maybe_shared(block.split().freeze()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_bytes_when_blocks_change() {
        let texts = Texts::default();
        let values: Vec<_> = (0..1000).map(|n| texts.value(format!("v{n}").as_bytes())).collect();
        for (n, value) in values.iter().enumerate() {
            assert_eq!(value.as_ref().unwrap(), &format!("v{n}"));
        }
        assert_eq!(texts.value(&vec![b'x'; 9000]).unwrap().len(), 9000);
        assert!(texts.value(b"a\nb").is_none());
    }

    #[test]
    fn a_thousand_values_take_a_few_blocks() {
        let texts = Texts::default();
        let counted = allocation_counter::measure(|| {
            for _ in 0..1000 {
                drop(texts.value(b"0123456789abcdef"));
            }
        });
        assert!(counted.count_total <= 10, "{counted:?}");
    }
}
