import Foundation

/// Whole files in memory, unpacked by content: what a file holds decides, not what it is called.
public enum FileBytes {
  /// The bytes of a file, unpacked when they begin as gzip does.
  ///
  /// - Parameters:
  ///   - format: the reader on whose behalf the file is opened; it begins the error.
  ///   - limit: the most bytes that the result may have.
  public static func read(_ path: String, format: String, limit: Int = Gzip.defaultLimit) throws -> [UInt8] {
    let bytes = try readStored(path, format: format)
    if Gzip.isGzip(bytes) { return try Gzip.decompress(bytes, name: path, limit: limit) }
    guard bytes.count <= limit else {
      throw FormatError(format, path, "\(bytes.count) bytes, expected at most \(limit)")
    }
    return bytes
  }

  /// The bytes of a file as they are stored.
  static func readStored(_ path: String, format: String) throws -> [UInt8] {
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory) else {
      throw FormatError(format, path, "no such file")
    }
    guard !isDirectory.boolValue else { throw FormatError(format, path, "expected a file, got a folder") }
    do {
      return [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    } catch {
      throw FormatError(format, path, "cannot be read: \(error.localizedDescription)")
    }
  }
}
