import Crypto
import Foundation
import KeelCL
import KeelCore
import KeelKernels

/// What `keel tune` found, on disk: a line of JSON for each choice.
///
/// A choice holds for the device, the driver, the version of Keel and the texts of all kernels that it was measured
/// with; others stay where they are and are not used. Lines are only ever added, each in one piece, so that processes
/// may share the file; of two for the same problem, device, driver and kernels the later one counts. Lines that cannot
/// be read are left out, with a reason.
///
/// The folder is `KEEL_TUNE_DIR`, else `keel/tune` in the user's cache; `KEEL_TUNE_DIR=` (empty) turns it off.
public struct TuningDatabase: Sendable {
  /// One line: on this device, with these kernels, this variant is to be used.
  public struct Entry: Hashable, Codable, Sendable {
    /// What was solved.
    public var family: String
    /// See ``ProblemKey/bucket``.
    public var bucket: String
    /// The one to use: faster, or right where the other is wrong, or one that merges where the other does not.
    public var variant: String
    /// What would have been used instead.
    public var against: String
    /// The other's smallest time divided by this one's; nil where the other is wrong.
    public var ratio: Double?
    /// Platform, name and number of compute units.
    public var device: String
    /// Versions of platform and driver.
    public var driver: String
    /// A digest of Keel's version, to which sizes of launches belong, and all kernels' texts.
    public var kernels: String

    /// The line of these values.
    public init(
      key: ProblemKey, variant: String, against: String, ratio: Double?, device: Device, kernels: String
    ) {
      (family, bucket, self.variant, self.against, self.ratio) = (key.family, key.bucket, variant, against, ratio)
      (self.device, driver) = (Self.name(of: device), Self.driver(of: device))
      self.kernels = kernels
    }

    var key: ProblemKey { ProblemKey(family: family, bucket: bucket) }

    /// What an entry replaces another by having in common.
    fileprivate var place: [String] { [family, bucket, device, driver, kernels] }

    /// Whether it was measured with this device, its present driver, and these kernels.
    public func holds(for device: Device, kernels: String) -> Bool {
      self.device == Self.name(of: device) && driver == Self.driver(of: device) && self.kernels == kernels
    }

    /// Whether this build has the variant.
    public var isKnown: Bool { KernelFamilies.variants[family]?.contains(variant) == true }

    private static func name(of device: Device) -> String {
      "\(device.platform.name), \(device.name), \(device.computeUnits) units"
    }
    private static func driver(of device: Device) -> String { "\(device.platform.version), \(device.driverVersion)" }
  }

  /// Nil when the database is off.
  public let file: URL?

  /// The database that these variables name.
  public init(environment: [String: String] = ProcessInfo.processInfo.environment) {
    let folder = environment["KEEL_TUNE_DIR"] ?? UserCache.folder("tune", environment) ?? ""
    file = folder.isEmpty ? nil : URL(fileURLWithPath: folder).appendingPathComponent("variants.jsonl")
  }

  /// The entries in order, without those that a later one replaces, and what was wrong with the lines that are none.
  public func read() -> (entries: [Entry], faults: [String]) {
    guard let file, FileManager.default.fileExists(atPath: file.path) else { return ([], []) }
    guard let data = try? Data(contentsOf: file) else { return ([], ["[tune] cannot read \(file.path)"]) }
    var (entries, faults): ([Entry], [String]) = ([], [])
    for (index, line) in data.split(separator: 10, omittingEmptySubsequences: false).enumerated() where !line.isEmpty {
      guard let entry = try? JSONDecoder().decode(Entry.self, from: Data(line)) else {
        faults.append("[tune] \(file.path):\(index + 1): expects a choice as `keel tune` writes it; left out")
        continue
      }
      entries.append(entry)
    }
    let last = Dictionary(entries.indices.map { (entries[$0].place, $0) }) { max($0, $1) }
    return (entries.indices.filter { last[entries[$0].place] == $0 }.map { entries[$0] }, faults)
  }

  /// The choices that hold for a device and these kernels, one a problem, and what was wrong with lines that are none.
  public func choices(for device: Device, kernels: String) -> (entries: [Entry], faults: [String]) {
    let (entries, faults) = read()
    return (entries.filter { $0.isKnown && $0.holds(for: device, kernels: kernels) }, faults)
  }

  /// Adds lines, and changes none. Other processes may do the same at the same time.
  ///
  /// - Throws: what the disk says, or when the database is off.
  public func add(_ new: [Entry]) throws {
    guard let file else { throw PrimitiveError("tune", "expects a folder; KEEL_TUNE_DIR is empty") }
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var lines = try new.reduce(into: Data()) { $0 += try encoder.encode($1) + Data("\n".utf8) }
    try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    func failure(_ what: String) -> PrimitiveError {
      PrimitiveError("tune", "\(file.path): \(what): \(String(cString: strerror(errno)))")
    }
    let descriptor = open(file.path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw failure("cannot be written") }
    let handle = FileHandle(fileDescriptor: descriptor, closeOnDealloc: true)
    guard flock(descriptor, LOCK_EX) == 0 else { throw failure("cannot be locked") }
    // What a process left that did not come to the end of its line.
    let end = try handle.seekToEnd()
    if end > 0 {
      try handle.seek(toOffset: end - 1)
      if try handle.read(upToCount: 1) != Data("\n".utf8) { lines = Data("\n".utf8) + lines }
    }
    try handle.write(contentsOf: lines)
    // Closing gives the lock back.
    try handle.close()
  }

  /// Removes the file. Throws what the disk says.
  public func clear() throws {
    guard let file, FileManager.default.fileExists(atPath: file.path) else { return }
    try FileManager.default.removeItem(at: file)
  }

  /// What the choice of kernels is given; says on standard error what is damaged, and with `KEEL_DEBUG` what is in use.
  func variants(for device: Device, _ source: KernelSource, isVerbose: Bool) -> TunedVariants {
    var variants = TunedVariants()
    guard let file, FileManager.default.fileExists(atPath: file.path), let kernels = try? Self.digest(of: source) else {
      return variants
    }
    let (entries, faults) = choices(for: device, kernels: kernels)
    for fault in faults { FileHandle.standardError.write(Data("\(fault)\n".utf8)) }
    for entry in entries { variants[entry.key] = entry.variant }
    if isVerbose, !entries.isEmpty {
      let count = "\(entries.count) tuned choice\(entries.count == 1 ? "" : "s")"
      FileHandle.standardError.write(Data("[tune] \(device.name): \(count) of \(file.path) in use\n".utf8))
    }
    return variants
  }

  /// What entries for the present kernels have as ``Entry/kernels``. Throws when one cannot be read.
  public static func kernels(environment: [String: String] = ProcessInfo.processInfo.environment) throws -> String {
    try digest(of: KernelSource(directory: environment["KEEL_KERNELS_DIR"]))
  }

  /// Of Keel's version and the names and texts of all kernels: 16 hexadecimal digits.
  static func digest(of source: KernelSource, version: String = keelVersion) throws -> String {
    var hash = SHA256()
    hash.update(data: Data("\(version)\n".utf8))
    for name in KernelSource.names {
      let text = try source.text(name)
      hash.update(data: Data("\(name) \(text.utf8.count)\n\(text)".utf8))
    }
    return hash.finalize().prefix(8).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }
}
