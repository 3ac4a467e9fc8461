//! The only place that touches recorded files: the arena in which open files grow, and the helper threads that bring blocks to the disk and
//! finish recordings. Creating, allocating, truncating, syncing and renaming happen here, never on an ingest core.

pub mod arena;
pub mod aside;
pub mod checksum;
pub mod disk;
pub mod faults;
pub mod finish;
pub mod folders;
pub mod gathering;
pub mod headers;
pub mod health;
mod huge;
pub mod moves;
pub mod open;
pub mod open_record;
pub mod orphans;
pub mod patient;
pub mod recover;
pub mod remove;
mod ring;
pub mod space;
pub mod storage;
pub mod store;
pub mod unsummed;
pub mod vital;
pub mod whole;

pub use arena::Arena;
pub use disk::{Disk, DiskHandle};
pub use health::DiskHealth;
pub use ring::{has_capability, probe as probe_ring};
pub use space::SpaceWatch;
pub use storage::Storage;
pub use store::{CoreStore, DiskCommand, Disks, FileIds, Places};
