/// What `keel devices` tells of one device; memory and alignment in bytes.
public struct DeviceReport: Codable, Sendable, Equatable {
  /// `platform:device`, a request that names exactly this device.
  public var path: String
  /// True for the device that is used when none is asked for.
  public var isDefault: Bool
  /// Name of the driver.
  public var platform: String
  /// Name of the device.
  public var device: String
  /// Who made it.
  public var vendor: String
  /// What sort of hardware it is.
  public var kind: Device.Kind
  /// False for a device that is switched off or has no compiler.
  public var usable: Bool
  /// The driver's own words.
  public var version: String
  /// Version of OpenCL C, `major.minor`.
  public var openCLC: String
  /// Version of the driver.
  public var driver: String
  /// Cores or multiprocessors.
  public var computeUnits: Int
  /// 0 when the driver does not tell.
  public var clockMHz: Int
  /// Most work-items in a group.
  public var maxWorkGroupSize: Int
  /// Memory of the device.
  public var memory: Int
  /// The largest buffer.
  public var maxAllocation: Int
  /// Cache of that memory.
  public var cache: Int
  /// Whether kernels can use `double`.
  public var fp64: Bool
  /// Whether kernels can use `half` in arithmetic.
  public var fp16: Bool
  /// Whether kernels can use sub-groups.
  public var subGroups: Bool
  /// Most sub-groups in a work-group; 0 when there are none or the driver does not tell.
  public var maxSubGroups: Int
  /// Local memory of a work-group.
  public var localMemory: Int
  /// Hardware of its own (true) or ordinary memory (false).
  public var localMemoryDedicated: Bool
  /// Where a sub-buffer may begin.
  public var baseAddressAlignment: Int
  /// Most workers of a merged launch, which a graph's estimated work is shared out among; nil where nothing is merged, or
  /// nobody has looked.
  public var mostWorkers: Int?
  /// Choices of kernels that were tuned for it and are in use; nil where nobody has looked.
  public var tunedChoices: Int?
  /// The file that they are in.
  public var tuningFile: String?

  /// The facts of `device`.
  public init(_ device: Device, isDefault: Bool = false) {
    path = device.path
    self.isDefault = isDefault
    platform = device.platform.name
    self.device = device.name
    vendor = device.vendor
    kind = device.kind
    usable = device.isUsable
    version = device.version
    openCLC = device.clCVersion.description
    driver = device.driverVersion
    computeUnits = device.computeUnits
    clockMHz = device.maxClockMHz
    maxWorkGroupSize = device.maxWorkGroupSize
    memory = device.globalMemoryBytes
    maxAllocation = device.maxAllocationBytes
    cache = device.globalCacheBytes
    fp64 = device.hasFP64
    fp16 = device.hasFP16
    subGroups = device.hasSubGroups
    maxSubGroups = device.maxSubGroups
    localMemory = device.localMemoryBytes
    localMemoryDedicated = device.localMemoryIsDedicated
    baseAddressAlignment = device.baseAddressAlignmentBytes
  }

  /// The report as label and value, in the order of the table.
  var rows: [(label: String, value: String)] {
    let tuned = tunedChoices.map { count in
      ("tuned", count == 0 ? "no choices" : "\(count) choice\(count == 1 ? "" : "s") in \(tuningFile ?? "no file")")
    }
    let merged = mostWorkers.map { most in
      ("a step", "one launch for \(most == 1 ? "1 worker" : "1 to \(most) workers, by a graph's estimated time")")
    }
    return [
      ("platform", platform),
      ("kind", kind.rawValue + (usable ? "" : ", not usable (switched off or without a compiler)")),
      ("vendor", vendor),
      ("version", "\(version), OpenCL C \(openCLC)"),
      ("driver", driver),
      ("compute units", clockMHz > 0 ? "\(computeUnits) at \(clockMHz) MHz" : "\(computeUnits)"),
      ("work-group", "at most \(maxWorkGroupSize) work-items"),
      ("memory", "\(Self.size(memory)), one allocation at most \(Self.size(maxAllocation)), cache \(Self.size(cache))"),
      ("local memory", "\(Self.size(localMemory)), \(localMemoryDedicated ? "dedicated" : "in global memory")"),
      ("fp64 / fp16", "\(fp64 ? "yes" : "no") / \(fp16 ? "yes" : "no")"),
      ("sub-groups", subGroups ? (maxSubGroups > 0 ? "yes, at most \(maxSubGroups) a group" : "yes") : "no"),
      ("alignment", "sub-buffers at multiples of \(baseAddressAlignment) bytes"),
    ] + [merged, tuned].compactMap { $0 }
  }

  /// A size to read: `15.5 GiB`, `512 KiB`.
  static func size(_ bytes: Int) -> String {
    var value = Double(bytes)
    var units = ["bytes", "KiB", "MiB", "GiB", "TiB"][...]
    while value >= 1024, units.count > 1 {
      value /= 1024
      units.removeFirst()
    }
    let tenths = Int((value * 10).rounded())
    let digits = tenths % 10 == 0 ? "\(tenths / 10)" : "\(tenths / 10).\(tenths % 10)"
    return "\(digits) \(units.first ?? "")"
  }
}

/// Everything that `keel devices` prints: the devices, and what failed to answer.
public struct DeviceListing: Codable, Sendable, Equatable {
  /// By platform and then by position.
  public var devices: [DeviceReport]
  /// What did not answer, and why.
  public var failures: [String]

  /// A listing of these.
  public init(devices: [DeviceReport], failures: [String] = []) {
    self.devices = devices
    self.failures = failures
  }

  /// The devices of this machine; the default one is what `Device.select(nil)` takes.
  ///
  /// - Parameter complete: adds to a report what OpenCL does not know of the device.
  /// - Throws: `CLError` with what to install when there is no platform. A `KEEL_DEVICE` that names no device is
  ///   no error here, because the listing is what one looks at to correct it: then no device is the default.
  public static func current(
    _ complete: (inout DeviceReport, Device) -> Void = { _, _ in }
  ) throws(CLError) -> DeviceListing {
    let discovery = try Device.discover()
    let chosen = try? Device.select(nil)
    let reports = discovery.devices.map { device in
      var report = DeviceReport(device, isDefault: device == chosen)
      complete(&report, device)
      return report
    }
    return DeviceListing(devices: reports, failures: discovery.failures.map(\.description))
  }

  /// A block of aligned rows a device, without a final line break.
  public var table: String {
    var blocks = devices.map { report in
      let width = (report.rows.map(\.label.count).max() ?? 0) + 2
      let head = "\(report.path)  \(report.device)" + (report.isDefault ? "  [default]" : "")
      let lines = report.rows.map { row in
        "     " + row.label + String(repeating: " ", count: width - row.label.count) + row.value
      }
      return ([head] + lines).joined(separator: "\n")
    }
    if devices.isEmpty { blocks.append("no OpenCL device") }
    if !failures.isEmpty { blocks.append(failures.map { "failed  \($0)" }.joined(separator: "\n")) }
    return blocks.joined(separator: "\n\n")
  }
}
