import Foundation

/// What has arrived of a download. Locked while it is open, so that two processes do not mix their bytes.
final class PartialFile {
  let destination: String
  private let path: String
  private let handle: FileHandle

  init(for destination: String) throws {
    self.destination = destination
    path = destination + ".partial"
    let folder = URL(fileURLWithPath: destination).deletingLastPathComponent()
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      if !FileManager.default.fileExists(atPath: path) {
        _ = FileManager.default.createFile(atPath: path, contents: nil)
      }
      handle = try FileHandle(forUpdating: URL(fileURLWithPath: path))
    } catch {
      throw FormatError("download", destination, "cannot be written: \(error.localizedDescription)")
    }
    guard flock(handle.fileDescriptor, LOCK_EX | LOCK_NB) == 0 else {
      try? handle.close()
      throw FormatError("download", destination, "another process is fetching it; try again when that has finished")
    }
  }

  func count() throws -> Int { try onDisk { Int(try handle.seekToEnd()) } }

  func append(_ data: Data) throws {
    try onDisk {
      try handle.seekToEnd()
      try handle.write(contentsOf: data)
    }
  }

  func truncate() throws { try onDisk { try handle.truncate(atOffset: 0) } }

  func contents() throws -> [UInt8] {
    try onDisk {
      try handle.seek(toOffset: 0)
      return [UInt8](try handle.readToEnd() ?? Data())
    }
  }

  func moveToDestination() throws {
    try onDisk { try handle.synchronize() }
    try AtomicFile.move(path, to: destination)
  }

  /// Closes the file; one that never got a byte is removed.
  func close() {
    if (try? handle.seekToEnd()) == 0 { try? FileManager.default.removeItem(atPath: path) }
    try? handle.close()
  }

  private func onDisk<Result>(_ body: () throws -> Result) throws -> Result {
    do { return try body() } catch let error as FormatError { throw error } catch {
      throw FormatError("download", path, "cannot be written: \(error.localizedDescription)")
    }
  }
}
