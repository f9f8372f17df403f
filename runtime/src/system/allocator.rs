//! An allocator that keeps large buffers for the next that is about as large.
//!
//! Training takes and gives back the same few hundred buffers in every step. A system's allocator returns buffers of
//! this size to the kernel at once, which clears each page anew and tells every core that it is gone: a third of a
//! step's time on two cores. A program that trains makes this its global allocator. Only while something is
//! [computed in steps](ReuseBuffers) are buffers kept: nothing else takes the same ones again and again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::{Mutex, MutexGuard};

/// The system's allocator, with idle buffers of a mebibyte and more kept for reuse while there is a [`ReuseBuffers`].
pub struct CachingAllocator;

/// While one of these is there, buffers are kept; with the last one they go back to the system.
pub struct ReuseBuffers(());

impl ReuseBuffers {
    /// Begins to keep buffers. Without [`CachingAllocator`] as the global allocator nothing happens.
    pub fn new() -> ReuseBuffers {
        FreeList::lock().users += 1;
        ReuseBuffers(())
    }
}

impl Default for ReuseBuffers {
    fn default() -> ReuseBuffers {
        ReuseBuffers::new()
    }
}

impl Drop for ReuseBuffers {
    fn drop(&mut self) {
        FreeList::lock().users -= 1;
        while let Some(buffer) = FreeList::pop_unused() {
            buffer.free();
        }
    }
}

/// Buffers of at least so many bytes are kept.
const LARGE: usize = 1 << 20;
/// Buffers that are kept at most.
const KEPT: usize = 1024;
/// Large buffers taken after which one that stayed idle is given back: a few steps' worth.
const PATIENCE: u64 = 8192;
/// Of all kept buffers: what the system gives without asking, so that fresh zeroed pages need no clearing.
const ALIGN: usize = 16;

static FREE_LIST: Mutex<FreeList> =
    Mutex::new(FreeList { buffers: [FreeBuffer { start: 0, size: 0, since: 0 }; KEPT], count: 0, taken: 0, users: 0 });

/// Buffers that nobody uses.
struct FreeList {
    buffers: [FreeBuffer; KEPT],
    count: usize,
    /// Large buffers taken so far.
    taken: u64,
    /// How many [`ReuseBuffers`] there are.
    users: usize,
}

#[derive(Clone, Copy)]
struct FreeBuffer {
    /// Address of the first byte.
    start: usize,
    size: usize,
    /// What [`FreeList::taken`] was when it was given back.
    since: u64,
}

impl FreeBuffer {
    /// Gives a buffer that is in no list any more back to the system.
    fn free(self) {
        // SAFETY: nobody uses an idle buffer, and its size and alignment made a layout when it was taken.
        unsafe {
            let layout = Layout::from_size_align_unchecked(self.size, ALIGN);
            System.dealloc(std::ptr::with_exposed_provenance_mut(self.start), layout);
        }
    }
}

impl FreeList {
    fn lock() -> MutexGuard<'static, FreeList> {
        // Nothing panics while it holds the lock.
        FREE_LIST.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The buffer of this size that was given back last.
    fn take(&mut self, size: usize) -> Option<*mut u8> {
        self.taken += 1;
        let found = self.buffers[..self.count].iter().rposition(|buffer| buffer.size == size)?;
        let start = self.buffers[found].start;
        self.remove(found);
        Some(std::ptr::with_exposed_provenance_mut(start))
    }

    /// Takes a buffer off the list, if no [`ReuseBuffers`] is left.
    fn pop_unused() -> Option<FreeBuffer> {
        let mut list = FreeList::lock();
        if list.users > 0 || list.count == 0 {
            return None;
        }
        list.count -= 1;
        Some(list.buffers[list.count])
    }

    /// Keeps a buffer; returns the one that has to go for it, or that had been idle for long.
    fn give(&mut self, start: *mut u8, size: usize) -> Option<FreeBuffer> {
        let buffer = FreeBuffer { start: start.expose_provenance(), size, since: self.taken };
        if self.users == 0 {
            return Some(buffer);
        }
        let oldest = self.buffers[..self.count].first().copied();
        let gone = oldest.filter(|buffer| self.count == KEPT || self.taken - buffer.since > PATIENCE);
        if gone.is_some() {
            self.remove(0);
        }
        self.buffers[self.count] = buffer;
        self.count += 1;
        gone
    }

    /// Blocks stay in the order in which they were given back.
    fn remove(&mut self, index: usize) {
        self.buffers.copy_within(index + 1..self.count, index);
        self.count -= 1;
    }
}

/// The size of which a large buffer is taken from the system, so that one that differs by a little can be used again:
/// an eighth of a power of two. What lies beyond the buffer is never touched, and so takes no memory.
fn class(size: usize) -> Option<usize> {
    let step = (size.checked_next_power_of_two()? / 16).max(1);
    size.checked_next_multiple_of(step)
}

/// The layout of a kept buffer; `None` for what is left to the system's allocator.
fn kept(layout: Layout) -> Option<Layout> {
    if layout.size() < LARGE || layout.align() > ALIGN {
        return None;
    }
    Layout::from_size_align(class(layout.size())?, ALIGN).ok()
}

// SAFETY: every buffer is the system's own, of a layout that `kept` gives again when it is given back; one that is idle
// belongs to nobody, and is handed out once.
unsafe impl GlobalAlloc for CachingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(large) = kept(layout) else {
            // SAFETY: the caller's own duties.
            return unsafe { System.alloc(layout) };
        };
        let idle = FreeList::lock().take(large.size());
        // SAFETY: the size is not zero.
        idle.unwrap_or_else(|| unsafe { System.alloc(large) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(large) = kept(layout) else {
            // SAFETY: the caller's own duties.
            return unsafe { System.alloc_zeroed(layout) };
        };
        match FreeList::lock().take(large.size()) {
            Some(start) => {
                // SAFETY: the buffer is at least as large as the layout.
                unsafe { start.write_bytes(0, layout.size()) };
                start
            }
            // SAFETY: the size is not zero.
            None => unsafe { System.alloc_zeroed(large) },
        }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        let Some(large) = kept(layout) else {
            // SAFETY: the caller's own duties; the buffer was taken by the same branch.
            return unsafe { System.dealloc(start, layout) };
        };
        let gone = FreeList::lock().give(start, large.size());
        if let Some(buffer) = gone {
            buffer.free();
        }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return std::ptr::null_mut() };
        match (kept(layout), kept(wanted)) {
            // SAFETY: the caller's own duties; neither buffer is kept.
            (None, None) => unsafe { System.realloc(start, layout, size) },
            (Some(old), Some(new)) if old == new => start,
            // SAFETY: the new buffer is new, and both hold what is copied.
            _ => unsafe {
                let moved = self.alloc(wanted);
                if !moved.is_null() {
                    std::ptr::copy_nonoverlapping(start, moved, layout.size().min(size));
                    self.dealloc(start, layout);
                }
                moved
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: CachingAllocator = CachingAllocator;

    #[test]
    fn a_buffer_is_used_again_and_comes_back_zeroed() {
        let _reuse = ReuseBuffers::new();
        // A size that no other test takes.
        let first = vec![7u8; 5 << 20];
        let start = first.as_ptr();
        drop(first);
        let second = vec![0u8; (5 << 20) - 1000];
        assert_eq!(second.as_ptr(), start);
        assert!(second.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn growing_and_shrinking_keeps_the_content() {
        let _reuse = ReuseBuffers::new();
        let mut bytes: Vec<u8> = Vec::new();
        for k in 0..6_000_000u32 {
            bytes.push(k as u8);
        }
        bytes.truncate(1_200_000);
        bytes.shrink_to_fit();
        bytes.extend(vec![9; 100]);
        assert!(bytes[..1_200_000].iter().enumerate().all(|(k, &byte)| byte == k as u8));
    }

    #[test]
    fn classes_waste_little() {
        for size in [LARGE, LARGE + 1, 3 << 20, 41_000_000, usize::MAX >> 8] {
            let class = class(size).unwrap();
            assert!(class >= size && class - size <= size / 8, "{size} {class}");
        }
        assert_eq!(class(usize::MAX), None);
    }

    #[test]
    fn threads_share_it() {
        let _reuse = ReuseBuffers::new();
        std::thread::scope(|scope| {
            for k in 0..4u8 {
                scope.spawn(move || {
                    for size in 0..50 {
                        let buffer = vec![k; LARGE + size * 50_000];
                        assert!(buffer.iter().all(|&byte| byte == k));
                    }
                });
            }
        });
    }
}
