//! What a filesystem may take: bytes of contents, bytes of bookkeeping, inodes.
//!
//! Everything is charged before it is allocated and given back by a [`Charge`]'s drop, so that no
//! path through the code can forget it: an unlinked file that is still open keeps its charge until
//! its last descriptor goes. Contents count against the volume's size limit, the pod's storage and
//! the pod's memory. Names and inodes count against the pod's memory only, as on tmpfs: a volume of
//! one mebibyte holds a file of one mebibyte.

use std::sync::Arc;

use super::errno::Errno;
use crate::runtime::budget::Budget;

/// What an inode and a directory entry cost besides their names and contents.
pub const INODE_BYTES: u64 = 320;
pub const ENTRY_BYTES: u64 = 128;

/// The budgets that one filesystem draws from.
#[derive(Clone, Debug)]
pub struct Quota {
    pub contents: Arc<Budget>,
    pub bookkeeping: Arc<Budget>,
    pub inodes: Arc<Budget>,
}

impl Quota {
    /// The same budgets, with contents limited to `size_limit` more strictly.
    pub fn limited(&self, size_limit: Option<u64>) -> Self {
        let contents = match size_limit {
            Some(bytes) => Budget::within(&self.contents, bytes),
            None => Arc::clone(&self.contents),
        };
        Self {
            contents,
            bookkeeping: Arc::clone(&self.bookkeeping),
            inodes: Arc::clone(&self.inodes),
        }
    }

    /// The same budgets, with contents that are memory and no storage, limited to `size_limit`.
    pub fn in_memory(&self, size_limit: Option<u64>) -> Self {
        let limit = size_limit.unwrap_or(u64::MAX);
        Self {
            contents: Budget::within(&self.bookkeeping, limit),
            ..self.clone()
        }
    }

    /// The charge of one new inode whose own text (a symlink's target) has `text` bytes.
    pub fn inode(&self, text: usize) -> Result<[Charge; 2], Errno> {
        Ok([
            Charge::of(&self.inodes, 1)?,
            Charge::of(&self.bookkeeping, INODE_BYTES + text as u64)?,
        ])
    }
}

/// An amount taken from a budget, given back when dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    amount: u64,
}

impl Charge {
    /// Nothing yet.
    pub fn none(budget: &Arc<Budget>) -> Self {
        Self {
            budget: Arc::clone(budget),
            amount: 0,
        }
    }

    /// Takes `amount`, or fails as a full disk does.
    pub fn of(budget: &Arc<Budget>, amount: u64) -> Result<Self, Errno> {
        let mut charge = Self::none(budget);
        charge.grow(amount)?;
        Ok(charge)
    }

    /// Takes `more`, or changes nothing.
    pub fn grow(&mut self, more: u64) -> Result<(), Errno> {
        self.budget.charge(more).map_err(|_| Errno::NoSpace)?;
        self.amount += more;
        Ok(())
    }

    /// Gives `less` back.
    pub fn shrink(&mut self, less: u64) {
        let less = less.min(self.amount);
        self.budget.release(less);
        self.amount -= less;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.release(self.amount);
    }
}
