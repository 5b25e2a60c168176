//! The bounded table of flows.
use super::FlowKey;

/// How many flows may exist.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all.
    pub flows: usize,
    /// Of one inside address.
    pub per_source: usize,
}

/// Which bound refused a new flow. Established flows are never harmed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exhausted {
    /// The table is full.
    Flows,
    /// This source has all the flows it may have.
    FlowsPerSource,
}

/// A short handle of a flow; never valid again once the flow is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId {
    index: u32,
    generation: u32,
}

/// Flows by five-tuple and by handle.
#[derive(Debug)]
pub struct FlowTable<V> {
    _v: std::marker::PhantomData<V>,
}

impl FlowId {
    /// Where the flow lies in a slab that is as large as the table; reused after removal.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

impl<V> FlowTable<V> {
    /// An empty table. `seed` keys the hash, so that nobody outside can choose collisions.
    pub fn new(_limits: Limits, _seed: u64) -> Self {
        todo!()
    }
    /// The handle of a flow.
    pub fn find(&self, _key: &FlowKey) -> Option<FlowId> {
        todo!()
    }
    /// The flow's five-tuple and state.
    pub fn get(&self, _id: FlowId) -> Option<(&FlowKey, &V)> {
        todo!()
    }
    /// The same, to change.
    pub fn get_mut(&mut self, _id: FlowId) -> Option<(&FlowKey, &mut V)> {
        todo!()
    }
    /// Adds a flow. The key must not be in the table.
    ///
    /// # Errors
    /// [`Exhausted`] names the bound.
    pub fn insert(&mut self, _key: FlowKey, _value: V) -> Result<FlowId, Exhausted> {
        todo!()
    }
    /// Takes a flow out.
    pub fn remove(&mut self, _id: FlowId) -> Option<(FlowKey, V)> {
        todo!()
    }
    /// How many flows there are.
    pub fn len(&self) -> usize {
        todo!()
    }
    /// True without any flow.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// All handles, in no particular but deterministic order.
    pub fn ids(&self) -> impl Iterator<Item = FlowId> + '_ {
        std::iter::empty()
    }
}
