//! A persistent array: three levels of shared blocks, so that a copy of the whole costs one
//! reference count and a change copies one block per level, whatever the length.

use std::sync::Arc;

use prefetch_index::prefetch_index;

const MID_BITS: u32 = 7;
const MID_LEN: usize = 1 << MID_BITS;

/// Values by dense index, `2^LEAF_BITS` to a block. Indices never written hold the default.
#[derive(Clone)]
pub(super) struct Slab<T, const LEAF_BITS: u32 = 6> {
    #[expect(clippy::type_complexity, reason = "the three levels are what this file is about")]
    root: Arc<[Arc<[Arc<[T]>]>]>,
}

impl<T: Clone + Default, const LEAF_BITS: u32> Slab<T, LEAF_BITS> {
    pub(super) fn new() -> Self {
        Self { root: Arc::from([]) }
    }

    /// The value at `index`; `None` where nothing near it was ever written.
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let [root, mid, leaf] = Self::places(index);
        self.root.get(root)?.get(mid)?.get(leaf)
    }

    /// Asks memory for the value at `index`, without waiting for it.
    pub(super) fn prefetch(&self, index: u32) {
        let [root, mid, leaf] = Self::places(index);
        if let Some(values) = self.root.get(root).and_then(|mids| mids.get(mid)) {
            prefetch_index(&**values, leaf);
        }
    }

    /// The value at `index` for change; blocks on the way are copied if anyone else holds them.
    pub(super) fn entry(&mut self, index: u32) -> &mut T {
        let [root, mid, leaf] = Self::places(index);
        if root >= self.root.len() {
            let empty: Arc<[Arc<[T]>]> = vec![Arc::from([]); MID_LEN].into();
            let missing = root + 1 - self.root.len();
            self.root =
                self.root.iter().cloned().chain(std::iter::repeat_n(empty, missing)).collect();
        }
        let mids = &mut Arc::make_mut(&mut self.root)[root];
        let leaves = &mut Arc::make_mut(mids)[mid];
        if leaves.is_empty() {
            *leaves = vec![T::default(); 1 << LEAF_BITS].into();
        }
        &mut Arc::make_mut(leaves)[leaf]
    }

    /// All values in order of their index, defaults included.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.root.iter().flat_map(|mids| mids.iter()).flat_map(|leaf| leaf.iter())
    }

    fn places(index: u32) -> [usize; 3] {
        let index = index as usize;
        [
            index >> (LEAF_BITS + MID_BITS),
            (index >> LEAF_BITS) & (MID_LEN - 1),
            index & ((1 << LEAF_BITS) - 1),
        ]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_copy_never_sees_later_changes(
            writes in proptest::collection::vec((0u32..20_000, any::<u16>()), 1..60),
            cut in 0usize..60,
        ) {
            let mut slab = Slab::<u16>::new();
            let mut model = std::collections::HashMap::new();
            let (before, after) = writes.split_at(cut.min(writes.len()));
            for &(index, value) in before {
                *slab.entry(index) = value;
                model.insert(index, value);
            }
            let copy = slab.clone();
            for &(index, value) in after {
                *slab.entry(index) = value;
            }
            for &(index, _) in &writes {
                let expected = model.get(&index).copied().unwrap_or_default();
                prop_assert_eq!(copy.get(index).copied().unwrap_or_default(), expected);
            }
        }
    }
}
