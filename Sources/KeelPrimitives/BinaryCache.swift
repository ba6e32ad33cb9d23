import Crypto
import Foundation
import KeelCL
import KeelCore

/// Compiled programs on disk, for drivers that keep none themselves.
///
/// An entry's name is the SHA-256 of everything that can change the binary: the text after includes and slots, the
/// options, platform, device, driver, Keel's own version, and the format of the entry. It holds the digest of its
/// payload, so that one that was cut off or altered is rebuilt. Processes may share the folder: an entry is there whole or
/// not at all. What was not used for longest goes when the folder has grown beyond its limit: that is looked at when the
/// first entry is written, and again after every sixteenth. The cache is an aid: what
/// can't be read or written is compiled again.
///
/// The folder is `KEEL_CACHE_DIR`, else `keel/programs` in the user's cache; `KEEL_CACHE_DIR=` (empty) turns it off.
public struct BinaryCache: Sendable {
  private static let format = "keel-program-1"

  /// Nil when the cache is off.
  public let folder: URL?
  /// What the entries may take together.
  let limitBytes: Int
  private let writes = Counter()

  /// The cache that these variables name.
  ///
  /// - Parameter limitBytes: what the entries may take together, 256 MiB.
  public init(
    environment: [String: String] = ProcessInfo.processInfo.environment, limitBytes: Int = 256 << 20
  ) {
    self.limitBytes = limitBytes
    let directory = environment["KEEL_CACHE_DIR"] ?? UserCache.folder("programs", environment) ?? ""
    folder = directory.isEmpty ? nil : URL(fileURLWithPath: directory)
  }

  /// Variables with which drivers compile differently.
  static let compilerVariables = [
    "CL_CONFIG_CPU_TARGET_ARCH", "CL_CONFIG_CPU_VECTORIZER_MODE", "POCL_EXTRA_BUILD_FLAGS", "POCL_KERNELLIB_NAME",
    "POCL_LLVM_CPU_NAME", "POCL_WORK_GROUP_METHOD", "POCL_WORK_GROUP_SPECIALIZATION",
  ]

  /// The name of the entry for a program's whole text: 64 hexadecimal digits.
  public static func key(
    text: String, options: String, device: Device,
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) -> String {
    let parts =
      [
        format, keelVersion, options, device.platform.name, device.platform.version, device.name, device.vendor,
        device.version, device.driverVersion, text,
      ] + compilerVariables.map { environment[$0] ?? "" }
    // Each part with its length, so that no two lists of parts run together.
    let joined = parts.map { "\($0.utf8.count):\($0)" }.joined()
    return hex(SHA256.hash(data: Data(joined.utf8)))
  }

  /// The binary, or nil when there is no sound entry.
  public func read(_ key: String) -> [UInt8]? {
    guard let file = file(key), let data = try? Data(contentsOf: file) else { return nil }
    let header = Self.header(of: data.dropFirst(Self.headerLength))
    guard data.count > Self.headerLength, data.prefix(Self.headerLength) == header else { return nil }
    try? FileManager.default.setAttributes([.modificationDate: Date()], ofItemAtPath: file.path)
    return [UInt8](data.dropFirst(Self.headerLength))
  }

  /// Keeps the binary: written beside its place, then renamed.
  public func write(_ key: String, _ binary: [UInt8]) {
    guard let folder, let file = file(key) else { return }
    let payload = Data(binary)
    let temporary = folder.appendingPathComponent("\(key).\(UUID().uuidString).tmp")
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      try (Self.header(of: payload) + payload).write(to: temporary)
    } catch {
      // The disk may be full: nothing is left of a part.
      try? FileManager.default.removeItem(at: temporary)
      return
    }
    if rename(temporary.path, file.path) != 0 { try? FileManager.default.removeItem(at: temporary) }
    // To look through the folder takes longer than to write an entry. Most processes write few.
    if writes.next() % 16 == 0 { trim(folder) }
  }

  /// Removes entries, and what interrupted processes left, from the one that was not used for longest until the rest is
  /// within the limit. Another process may remove the same ones.
  private func trim(_ folder: URL) {
    let keys: Set<URLResourceKey> = [.fileSizeKey, .contentModificationDateKey, .isRegularFileKey]
    let files =
      (try? FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: Array(keys))) ?? []
    var entries = files.filter { Self.isOwn($0.lastPathComponent) }.compactMap { file in
      (try? file.resourceValues(forKeys: keys)).flatMap { values in
        values.isRegularFile == true
          ? (file: file, size: values.fileSize ?? 0, used: values.contentModificationDate ?? .distantPast) : nil
      }
    }
    var total = entries.reduce(0) { $0 + $1.size }
    guard total > limitBytes else { return }
    entries.sort { $0.used < $1.used }
    for entry in entries where total > limitBytes {
      try? FileManager.default.removeItem(at: entry.file)
      total -= entry.size
    }
  }

  /// Whether the cache gives such names: the folder may hold what belongs to others.
  private static func isOwn(_ name: String) -> Bool {
    let (stem, rest) = (name.utf8.prefix(64), name.utf8.dropFirst(64))
    let isKey = stem.count == 64 && stem.allSatisfy { (48...57).contains($0) || (97...102).contains($0) }
    return isKey && (rest.elementsEqual(".clbin".utf8) || rest.count == 41 && rest.suffix(4).elementsEqual(".tmp".utf8))
  }

  /// Of what copies of a cache do together.
  private final class Counter: @unchecked Sendable {
    private let lock = NSLock()
    private var count = 0

    /// 0, 1, …
    func next() -> Int {
      lock.withLock {
        count += 1
        return count - 1
      }
    }
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
