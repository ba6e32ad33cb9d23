import Crypto
import Foundation
import KeelCL
import KeelCore

/// Compiled programs on disk, for drivers that keep none themselves.
///
/// An entry's name is the SHA-256 of everything that can change the binary: the text after includes and slots, the
/// options, platform, device, driver, Keel's own version, and the format of the entry. It holds the digest of its
/// payload, so that one that was cut off or altered is rebuilt. The cache is an aid: what can't be read or written is compiled again.
///
/// The folder is `KEEL_CACHE_DIR`, else `keel/programs` in the user's cache; `KEEL_CACHE_DIR=` (empty) turns it off.
public struct BinaryCache: Sendable {
  private static let format = "keel-program-1"

  /// Nil when the cache is off.
  public let folder: URL?

  /// The cache that these variables name.
  public init(environment: [String: String] = ProcessInfo.processInfo.environment) {
    if let directory = environment["KEEL_CACHE_DIR"] {
      folder = directory.isEmpty ? nil : URL(fileURLWithPath: directory)
    } else if let cache = environment["XDG_CACHE_HOME"], !cache.isEmpty {
      folder = URL(fileURLWithPath: cache).appendingPathComponent("keel/programs")
    } else if let home = environment["HOME"], !home.isEmpty {
      folder = URL(fileURLWithPath: home).appendingPathComponent(".cache/keel/programs")
    } else {
      folder = nil
    }
  }

  /// The name of the entry for a program's whole text: 64 hexadecimal digits.
  public static func key(text: String, options: String, device: Device) -> String {
    let parts = [
      format, keelVersion, options, device.platform.name, device.platform.version, device.name, device.vendor,
      device.version, device.driverVersion, text,
    ]
    // Each part with its length, so that no two lists of parts run together.
    let joined = parts.map { "\($0.utf8.count):\($0)" }.joined()
    return hex(SHA256.hash(data: Data(joined.utf8)))
  }

  /// The binary, or nil when there is no sound entry.
  public func read(_ key: String) -> [UInt8]? {
    guard let file = file(key), let data = try? Data(contentsOf: file) else { return nil }
    let header = Self.header(of: data.dropFirst(Self.headerLength))
    guard data.count > Self.headerLength, data.prefix(Self.headerLength) == header else { return nil }
    return [UInt8](data.dropFirst(Self.headerLength))
  }

  /// Keeps the binary: written beside its place, then renamed.
  public func write(_ key: String, _ binary: [UInt8]) {
    guard let folder, let file = file(key) else { return }
    try? FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let payload = Data(binary)
    try? (Self.header(of: payload) + payload).write(to: file, options: .atomic)
  }

  func file(_ key: String) -> URL? { folder?.appendingPathComponent(key + ".clbin") }

  private static let headerLength = format.utf8.count + SHA256.byteCount

  private static func header(of payload: Data) -> Data {
    Data(format.utf8) + Data(SHA256.hash(data: payload))
  }

  private static func hex(_ digest: some Sequence<UInt8>) -> String {
    digest.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }
}
