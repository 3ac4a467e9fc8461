//! Under systemd with `Delegate=` the service's control group is ours to divide: we move into one half, encoders go into the other, which gets what the first
//! leaves of processor and disk, and can be ended as a whole whatever its processes did (cgroup v2, Documentation/admin-guide/cgroup-v2.rst).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where the unified hierarchy is mounted.
const ROOT: &str = "/sys/fs/cgroup";
const OURS: &str = "recorder";
const JOBS: &str = "jobs";
/// Against the 100 that a group has by itself.
const JOBS_WEIGHT: &str = "5";

/// The group of the encoders.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobGroup {
    folder: PathBuf,
}

impl JobGroup {
    /// Divides the group that this process is in, if a service manager gave it to us. `None`: it did not.
    pub fn of_service() -> Option<Self> {
        std::env::var_os("NOTIFY_SOCKET")?;
        let lines = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = own_group(&lines)?;
        match Self::divide(&Path::new(ROOT).join(own.trim_start_matches('/'))) {
            Ok(group) => Some(group),
            Err(error) => {
                tracing::info!(%error, "encoders share our control group: the service's unit does not say Delegate=, or the group cannot be divided");
                None
            }
        }
    }

    /// Makes the two halves of `group` and moves this process into the first.
    ///
    /// # Errors
    /// If the group is not ours to change.
    pub fn divide(group: &Path) -> io::Result<Self> {
        let [ours, jobs] = [OURS, JOBS].map(|name| group.join(name));
        for half in [&ours, &jobs] {
            match fs::create_dir(half) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        fs::write(ours.join("cgroup.procs"), std::process::id().to_string())?;
        // Whatever of them the service manager handed on; what is missing is not divided, and that is all.
        for controller in ["+cpu", "+io", "+memory"] {
            let _ = fs::write(group.join("cgroup.subtree_control"), controller);
        }
        for weight in ["cpu.weight", "io.weight"] {
            let _ = fs::write(jobs.join(weight), JOBS_WEIGHT);
        }
        let group = Self { folder: jobs };
        group.end_all();
        Ok(group)
    }

    /// Where a process writes itself in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends everything in it, whosever child it is.
    pub fn end_all(&self) {
        if let Err(error) = fs::write(self.folder.join("cgroup.kill"), "1") {
            tracing::debug!(%error, "the control group of the encoders cannot be ended as a whole");
        }
    }
}

/// Puts the calling process into a group.
pub fn enter(folder: &Path) -> io::Result<()> {
    fs::write(folder.join("cgroup.procs"), "0")
}

/// The group in the unified hierarchy. `None`: there is none of our own.
fn own_group(lines: &str) -> Option<&str> {
    lines.lines().find_map(|line| line.strip_prefix("0::")).filter(|group| group.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_a_service() {
        assert_eq!(own_group("0::/system.slice/capstan.service\n"), Some("/system.slice/capstan.service"));
        assert_eq!(own_group("4:memory:/x\n0::/system.slice/capstan.service\n"), Some("/system.slice/capstan.service"));
        for none in ["0::/\n", "4:memory:/x\n", ""] {
            assert_eq!(own_group(none), None, "{none}");
        }
    }

    #[test]
    fn a_group_that_is_not_ours_is_left_alone() {
        assert!(JobGroup::divide(Path::new("/proc/nowhere")).is_err());
    }
}
