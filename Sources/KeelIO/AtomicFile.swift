import Foundation

/// Files that are there whole or not at all: written under another name in the same folder, then renamed.
public enum AtomicFile {
  /// Writes bytes to `path`, replacing what is there. A reader sees the old file or the new one, never a part.
  ///
  /// - Throws: `FormatError` naming the file; the temporary file is gone then and the old one untouched.
  public static func write(_ bytes: [UInt8], to path: String) throws {
    try write(Data(bytes), to: path)
  }

  /// See ``write(_:to:)-([UInt8],_)``.
  public static func write(_ data: Data, to path: String) throws {
    // A link is followed, so that it still points at the file afterwards.
    let target = URL(fileURLWithPath: path).resolvingSymlinksInPath()
    let name = ".\(target.lastPathComponent).\(UUID().uuidString.prefix(8)).tmp"
    let temporary = target.deletingLastPathComponent().appendingPathComponent(name)
    guard FileManager.default.createFile(atPath: temporary.path, contents: nil) else {
      throw FormatError("file", path, "cannot be written: \(temporary.path) could not be created")
    }
    do {
      let handle = try FileHandle(forWritingTo: temporary)
      defer { try? handle.close() }
      try handle.write(contentsOf: data)
      // The bytes must be on the disk before the name points at them.
      try handle.synchronize()
    } catch {
      try? FileManager.default.removeItem(at: temporary)
      throw FormatError("file", path, "cannot be written: \(error.localizedDescription)")
    }
    do {
      try move(temporary.path, to: target.path)
    } catch {
      try? FileManager.default.removeItem(at: temporary)
      throw FormatError("file", path, "cannot be written: \(error)")
    }
  }

  /// Renames a file over another in one step.
  static func move(_ source: String, to destination: String) throws {
    guard rename(source, destination) == 0 else {
      throw FormatError("file", destination, "cannot be put in place: \(String(cString: strerror(errno)))")
    }
  }
}
