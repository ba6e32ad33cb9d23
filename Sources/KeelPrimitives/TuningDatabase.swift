import Crypto
import Foundation
import KeelCL
import KeelKernels

/// What `keel tune` found, on disk: a line of JSON for each choice.
///
/// A choice holds for the device, the driver and the texts of all kernels that it was measured with; others are left
/// where they are and not used. Lines that cannot be read are left out, with a reason.
///
/// The folder is `KEEL_TUNE_DIR`, else `keel/tune` in the user's cache; `KEEL_TUNE_DIR=` (empty) turns it off.
public struct TuningDatabase: Sendable {
  /// One line: on this device, with these kernels, this variant was faster.
  public struct Entry: Hashable, Codable, Sendable {
    /// What was solved.
    public var family: String
    /// See ``ProblemKey/bucket``.
    public var bucket: String
    /// The faster one.
    public var variant: String
    /// What would have been used instead.
    public var against: String
    /// The other's smallest time divided by this one's.
    public var ratio: Double
    /// Platform and name.
    public var device: String
    /// Versions of platform and driver.
    public var driver: String
    /// A digest of all kernels' texts.
    public var kernels: String

    /// The line of these values.
    public init(
      key: ProblemKey, variant: String, against: String, ratio: Double, device: Device, kernels: String
    ) {
      (family, bucket, self.variant, self.against, self.ratio) = (key.family, key.bucket, variant, against, ratio)
      (self.device, driver) = (Self.name(of: device), Self.driver(of: device))
      self.kernels = kernels
    }

    var key: ProblemKey { ProblemKey(family: family, bucket: bucket) }

    /// Whether it was measured with this device, its present driver, and these kernels.
    public func holds(for device: Device, kernels: String) -> Bool {
      self.device == Self.name(of: device) && driver == Self.driver(of: device) && self.kernels == kernels
    }

    private static func name(of device: Device) -> String { "\(device.platform.name), \(device.name)" }
    private static func driver(of device: Device) -> String { "\(device.platform.version), \(device.driverVersion)" }
  }

  /// Nil when the database is off.
  public let file: URL?

  /// The database that these variables name.
  public init(environment: [String: String] = ProcessInfo.processInfo.environment) {
    func file(_ folder: String) -> URL { URL(fileURLWithPath: folder).appendingPathComponent("variants.jsonl") }
    if let folder = environment["KEEL_TUNE_DIR"] {
      self.file = folder.isEmpty ? nil : file(folder)
    } else if let cache = environment["XDG_CACHE_HOME"], !cache.isEmpty {
      self.file = file(cache + "/keel/tune")
    } else if let home = environment["HOME"], !home.isEmpty {
      self.file = file(home + "/.cache/keel/tune")
    } else {
      self.file = nil
    }
  }

  /// The entries in order, and what was wrong with the lines that are none.
  public func read() -> (entries: [Entry], faults: [String]) {
    guard let file, FileManager.default.fileExists(atPath: file.path) else { return ([], []) }
    guard let data = try? Data(contentsOf: file) else { return ([], ["[tune] cannot read \(file.path)"]) }
    var (entries, faults): ([Entry], [String]) = ([], [])
    for (index, line) in data.split(separator: 10, omittingEmptySubsequences: false).enumerated() where !line.isEmpty {
      guard let entry = try? JSONDecoder().decode(Entry.self, from: Data(line)) else {
        faults.append("[tune] \(file.path):\(index + 1): expects a choice as `keel tune` writes it; left out")
        continue
      }
      guard KernelFamilies.variants[entry.family]?.contains(entry.variant) == true else {
        faults.append("[tune] \(file.path):\(index + 1): no variant \(entry.variant) of \(entry.family); left out")
        continue
      }
      entries.append(entry)
    }
    return (entries, faults)
  }

  /// Adds entries in place of those for the same problem, device, driver and kernels; drops lines that are damaged.
  ///
  /// - Throws: what the disk says, or when the database is off.
  public func add(_ new: [Entry]) throws {
    guard let file else { throw PrimitiveError("tune", "expects a folder; KEEL_TUNE_DIR is empty") }
    func place(_ entry: Entry) -> [String] { [entry.family, entry.bucket, entry.device, entry.driver, entry.kernels] }
    let replaced = Set(new.map(place))
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var data = Data()
    for entry in read().entries.filter({ !replaced.contains(place($0)) }) + new {
      data += try encoder.encode(entry) + Data("\n".utf8)
    }
    try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
    try data.write(to: file, options: .atomic)
  }

  /// Removes the file. Throws what the disk says.
  public func clear() throws {
    guard let file, FileManager.default.fileExists(atPath: file.path) else { return }
    try FileManager.default.removeItem(at: file)
  }

  /// The choices that hold for a device, the last of a problem's; says on standard error what is damaged.
  func variants(for device: Device, _ source: KernelSource) -> TunedVariants {
    let (entries, faults) = read()
    for fault in faults { FileHandle.standardError.write(Data("\(fault)\n".utf8)) }
    var variants = TunedVariants()
    guard !entries.isEmpty, let kernels = try? Self.digest(of: source) else { return variants }
    for entry in entries where entry.holds(for: device, kernels: kernels) { variants[entry.key] = entry.variant }
    return variants
  }

  /// What entries for the present kernels have as ``Entry/kernels``. Throws when one cannot be read.
  public static func kernels(environment: [String: String] = ProcessInfo.processInfo.environment) throws -> String {
    try digest(of: KernelSource(directory: environment["KEEL_KERNELS_DIR"]))
  }

  /// Of the names and texts of all kernels: 16 hexadecimal digits.
  static func digest(of source: KernelSource) throws -> String {
    var hash = SHA256()
    for name in KernelSource.names {
      let text = try source.text(name)
      hash.update(data: Data("\(name) \(text.utf8.count)\n\(text)".utf8))
    }
    return hash.finalize().prefix(8).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }
}
