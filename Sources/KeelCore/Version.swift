/// Keel's version, of the form `major.minor.patch`: what `keel --version` says, and a part of the names of cached programs.
public let keelVersion = "0.1.0"
