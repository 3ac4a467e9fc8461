//! Ways to bring bytes to a disk, side by side: blocks of the arena written around the page cache (what Capstan does), a file of the disk mapped into
//! memory, and plain writes. Shows bytes a second, CPU seconds of this process per GB, and the longest that one append of 64 KiB took: that is what
//! an ingest core would have waited.
//!
//! ```text
//! cargo bench --bench segment                      in the folder for temporary files
//! cargo bench --bench segment -- --folder /srv     on another disk; 3 GiB are written
//! ```

mod support;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use capstan::segment::arena::{Arena, Block, BlockClass};
use crossbeam::channel::bounded;
use rustix::fs::{FallocateFlags, OFlags};

const APPEND_BYTES: usize = 64 << 10;
const BLOCK_BYTES: usize = 1 << 20;
/// Of each file, and how many files are written at once.
const FILE_BYTES: usize = 64 << 20;
const FILES: usize = 16;
/// Blocks between the thread that appends and the one that writes.
const BLOCKS: usize = 128;

struct Outcome {
    elapsed: Duration,
    longest: Duration,
    cpu_s: f64,
}

/// CPU seconds of this process.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("proc is mounted");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a bracket").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
    (ticks(11) + ticks(12)) as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Times `append`, called for every 64 KiB of every file in turn, and `finish`, after which all is on the disk.
fn run(append: &mut dyn FnMut(usize, usize, &[u8]), finish: &mut dyn FnMut()) -> Outcome {
    let bytes = vec![0x5a; APPEND_BYTES];
    let (begun, cpu, mut longest) = (Instant::now(), cpu_s(), Duration::ZERO);
    for at in (0..FILE_BYTES).step_by(APPEND_BYTES) {
        for file in 0..FILES {
            let start = Instant::now();
            append(file, at, &bytes);
            longest = longest.max(start.elapsed());
        }
    }
    finish();
    Outcome { elapsed: begun.elapsed(), longest, cpu_s: cpu_s() - cpu }
}

fn open(path: &Path, direct: bool) -> File {
    let flags = if direct { OFlags::DIRECT.bits() as i32 } else { 0 };
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).custom_flags(flags).open(path).expect("a new file");
    rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, FILE_BYTES as u64).expect("room for the file");
    file
}

/// Appends into blocks; a thread writes full ones with O_DIRECT and gives them back.
fn arena(folder: &Path) -> Result<Outcome, std::io::Error> {
    let memory = Path::new("/dev/shm").join(format!("capstan-bench-{}", std::process::id()));
    let mut arena = Arena::create(&memory, BLOCKS * BLOCK_BYTES)?;
    std::fs::remove_file(&memory)?;
    let files: Vec<File> = (0..FILES).map(|index| open(&folder.join(format!("arena-{index}")), true)).collect();
    let (full, to_write) = bounded::<Option<(usize, usize, Block)>>(BLOCKS);
    let (written, free) = bounded::<Block>(BLOCKS);
    Ok(std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            while let Ok(Some((file, at, block))) = to_write.recv() {
                let bytes = block.sealed_bytes(0, block.bytes());
                files[file].write_all_at(bytes.as_slice(), at as u64).expect("the disk takes it");
                drop(bytes);
                written.send(block).expect("the other side lives");
            }
            files.iter().for_each(|file| file.sync_data().expect("the disk takes it"));
        });
        let mut current: Vec<Option<Block>> = (0..FILES).map(|_| None).collect();
        let mut writer = Some(writer);
        let mut append = |file: usize, at: usize, bytes: &[u8]| {
            while let Ok(block) = free.try_recv() {
                arena.free(block);
            }
            let block = current[file].get_or_insert_with(|| {
                loop {
                    match arena.allocate(BlockClass::Large) {
                        Some(block) => break block,
                        // Full: the disk is the limit. Capstan would stop reading the socket.
                        None => arena.free(free.recv().expect("the writer lives")),
                    }
                }
            });
            block.write(at % BLOCK_BYTES, bytes);
            if at % BLOCK_BYTES + bytes.len() == BLOCK_BYTES
                && let Some(mut block) = current[file].take()
            {
                block.seal(BLOCK_BYTES);
                full.send(Some((file, at + bytes.len() - BLOCK_BYTES, block))).expect("the writer lives");
            }
        };
        run(&mut append, &mut || {
            full.send(None).expect("the writer lives");
            if let Some(writer) = writer.take() {
                writer.join().expect("the writer wrote");
            }
        })
    }))
}

/// Appends into a mapping of files on the disk itself: the same blocks, in a file that the kernel writes back.
fn mapped(folder: &Path) -> Result<Outcome, std::io::Error> {
    let path = folder.join("mapped");
    let mut arena = Arena::create(&path, FILES * FILE_BYTES)?;
    let file = File::open(&path)?;
    let mut current: Vec<Option<Block>> = (0..FILES).map(|_| None).collect();
    let mut done: Vec<Block> = Vec::new();
    Ok(run(
        &mut |file, at, bytes| {
            let block = current[file].get_or_insert_with(|| arena.allocate(BlockClass::Large).expect("room for everything"));
            block.write(at % BLOCK_BYTES, bytes);
            if at % BLOCK_BYTES + bytes.len() == BLOCK_BYTES {
                done.extend(current[file].take());
            }
        },
        &mut || file.sync_data().expect("the disk takes it"),
    ))
}

/// Plain writes by the thread that appends, into the page cache.
fn plain(folder: &Path) -> Result<Outcome, std::io::Error> {
    let mut files: Vec<File> = (0..FILES).map(|index| open(&folder.join(format!("plain-{index}")), false)).collect();
    let files = std::cell::RefCell::new(&mut files);
    Ok(run(&mut |file, _, bytes| files.borrow_mut()[file].write_all(bytes).expect("the disk takes it"), &mut || {
        files.borrow().iter().for_each(|file| file.sync_data().expect("the disk takes it"))
    }))
}

fn main() {
    let mut folder = std::env::temp_dir();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--folder" {
            folder = PathBuf::from(arguments.next().expect("--folder PATH"));
        }
    }
    let folder = tempfile::tempdir_in(folder).expect("a temporary folder");
    let total = (FILES * FILE_BYTES) as f64;
    println!("{FILES} files of {} MiB at once, 64 KiB an append, all synced at the end\n", FILE_BYTES >> 20);
    println!("{:<34} {:>9} {:>10} {:>12} {:>16}", "", "MB/s", "x plain", "CPU s/GB", "longest append");
    let mut base = None;
    for (name, way) in [
        ("plain write", &plain as &dyn Fn(&Path) -> Result<Outcome, std::io::Error>),
        ("mapped disk file", &mapped),
        ("arena blocks, direct I/O", &arena),
    ] {
        let inside = folder.path().join(name.replace([' ', ',', '/'], "-"));
        std::fs::create_dir(&inside).expect("a folder");
        match way(&inside) {
            Ok(outcome) => {
                let rate = total / outcome.elapsed.as_secs_f64();
                let plain = *base.get_or_insert(rate);
                println!(
                    "{name:<34} {:>9.0} {:>10.2} {:>12.2} {:>13.2} ms",
                    rate / 1e6,
                    rate / plain,
                    outcome.cpu_s / (total / 1e9),
                    outcome.longest.as_secs_f64() * 1e3
                );
            }
            Err(error) => println!("{name:<34} not here: {error}"),
        }
        std::fs::remove_dir_all(&inside).expect("its files go");
    }
}
