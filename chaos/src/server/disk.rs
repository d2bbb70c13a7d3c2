//! A small file system of a server's own, so that its disk can be full and nobody else's is.
//!
//! It is a tmpfs over the server's directory. Full is made by taking away the space that is free, which costs no memory,
//! and what little is left by a ballast file. The server's watchdog unmounts it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::statvfs::statvfs;

use crate::error::Error;

/// A mounted file system.
#[derive(Debug)]
pub struct Disk {
    mount: PathBuf,
    megabytes: u32,
}

impl Disk {
    /// Mounts one over an empty directory.
    pub fn mount(directory: &Path, megabytes: u32) -> Result<Self, Error> {
        let disk = Self { mount: directory.into(), megabytes };
        disk.run(&["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])?;
        Ok(disk)
    }

    /// Its size while it is not full, in MiB.
    pub fn megabytes(&self) -> u32 {
        self.megabytes
    }

    /// Leaves no space.
    pub fn fill(&self) -> Result<(), Error> {
        const ATTEMPTS: u32 = 20;
        for attempt in 1.. {
            // What is in use may grow until the new size holds; a size below it is refused.
            match self.resize(&format!("{}k", self.used_kilobytes()? + 64)) {
                Err(e) if attempt == ATTEMPTS => return Err(e),
                Err(_) => {}
                Ok(()) => break,
            }
        }
        let ballast = self.ballast();
        let mut file = std::fs::File::create(&ballast).map_err(Error::io("making", &ballast))?;
        // Ends with the error that there is no space.
        while file.write_all(&[1; 4096]).is_ok() {}
        Ok(())
    }

    /// Gives the space back.
    pub fn free(&self) -> Result<(), Error> {
        let ballast = self.ballast();
        std::fs::remove_file(&ballast).map_err(Error::io("removing", &ballast))?;
        self.resize(&format!("{}m", self.megabytes))
    }

    fn ballast(&self) -> PathBuf {
        self.mount.join("ballast")
    }

    fn used_kilobytes(&self) -> Result<u64, Error> {
        let stat =
            statvfs(&self.mount).map_err(|e| Error::io("asking for the space in", &self.mount)(e.into()))?;
        Ok((stat.blocks() - stat.blocks_free()) * stat.fragment_size() / 1024)
    }

    fn resize(&self, size: &str) -> Result<(), Error> {
        self.run(&["-o", &format!("remount,size={size}")])
    }

    fn run(&self, arguments: &[&str]) -> Result<(), Error> {
        let output = Command::new("mount").args(arguments).arg(&self.mount).output();
        let why = match output {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(e) => format!("mount: {e}"),
        };
        Err(Error::NoDisk { why })
    }
}
