internal import COpenCL

/// One compute device and the limits its driver reports, read once.
///
/// Only the name and the kind must be answered; a limit that a driver refuses to tell takes a safe value.
// Sendable unchecked: an immutable handle; OpenCL calls on it are thread-safe.
public final class Device: @unchecked Sendable {
  /// What sort of hardware it is.
  public enum Kind: String, Codable, Sendable, CaseIterable {
    case gpu, cpu, accelerator, other
  }

  /// An OpenCL version, compared by number.
  public struct Version: Comparable, Sendable, CustomStringConvertible {
    /// 3 of `3.0`.
    public let major: Int
    /// 0 of `3.0`.
    public let minor: Int

    /// The version `major.minor`.
    public init(_ major: Int, _ minor: Int) {
      self.major = major
      self.minor = minor
    }

    /// Reads `OpenCL 3.0 …` and `OpenCL C 1.2 …`; nil for text of another form.
    public init?(parsing text: String) {
      let words = text.split(separator: " ")
      guard words.first == "OpenCL", let number = words.dropFirst().first(where: { $0 != "C" }) else { return nil }
      let parts = number.split(separator: ".")
      guard parts.count == 2, let major = Int(parts[0]), let minor = Int(parts[1]) else { return nil }
      self.init(major, minor)
    }

    public static func < (a: Version, b: Version) -> Bool { (a.major, a.minor) < (b.major, b.minor) }
    public var description: String { "\(major).\(minor)" }
  }

  let handle: cl_device_id

  /// The driver that it belongs to.
  public let platform: Platform
  /// Position in the platform's list, the `d` of a `p:d` device request.
  public let index: Int
  /// The driver's name of the device.
  public let name: String
  /// Who made it; empty when the driver does not tell.
  public let vendor: String
  /// The driver's own words, e.g. `OpenCL 3.0 PoCL HSTR: …`.
  public let version: String
  /// The number in `version`; 1.0 when it cannot be read.
  public let clVersion: Version
  /// Version of OpenCL C that the compiler takes; 1.0 when it cannot be read.
  public let clCVersion: Version
  /// Of the driver, in its own form.
  public let driverVersion: String
  /// What sort of hardware it is.
  public let kind: Kind
  /// False for a device that is switched off, or whose driver has no compiler: Keel cannot use it.
  public let isUsable: Bool
  /// Names of the OpenCL extensions, e.g. `cl_khr_fp64`.
  public let extensions: Set<String>

  /// Cores of a CPU, multiprocessors of a GPU; at least 1.
  public let computeUnits: Int
  /// 0 when the driver does not tell.
  public let maxClockMHz: Int
  /// Floats in the vector that the driver likes best; at least 1.
  public let preferredVectorWidthFloat: Int
  /// Floats in a vector register; 1 where it has none, 0 when the driver does not tell.
  public let nativeVectorWidthFloat: Int
  /// Most work-items in a group; at least 1.
  public let maxWorkGroupSize: Int
  /// Limit of the local size on each axis.
  public let maxWorkItemSizes: [Int]

  /// Memory of the device, in bytes; 0 when the driver does not tell.
  public let globalMemoryBytes: Int
  /// Cache of that memory, in bytes; 0 for none, or when the driver does not tell.
  public let globalCacheBytes: Int
  /// The largest buffer, in bytes; where the driver does not tell, what every device must take.
  public let maxAllocationBytes: Int
  /// Local memory of a work-group, in bytes.
  public let localMemoryBytes: Int
  /// True when local memory is hardware of its own; false when it is ordinary memory (CPU devices).
  public let localMemoryIsDedicated: Bool
  /// Where a sub-buffer may begin, in bytes. (OpenCL reports bits.)
  public let baseAddressAlignmentBytes: Int

  /// Whether `/` and `sqrt` of `float` can be rounded correctly, as those of `double` always are.
  public let hasCorrectlyRoundedDivision: Bool
  /// Whether kernels can use `double`.
  public let hasFP64: Bool
  /// Whether kernels can use `half` in arithmetic.
  public let hasFP16: Bool
  /// Whether kernels can use sub-groups.
  public let hasSubGroups: Bool
  /// Most sub-groups in a work-group; 0 without sub-groups, or where the driver does not tell.
  public let maxSubGroups: Int

  init(_ handle: cl_device_id, platform: Platform, index: Int) throws(CLError) {
    let info = Info(call: "clGetDeviceInfo", subject: "device \(platform.index):\(index)") {
      clGetDeviceInfo(handle, $0, $1, $2, $3)
    }
    func text(_ parameter: Int32) -> String { (try? info.string(parameter)) ?? "" }
    func number(_ parameter: Int32, or fallback: Int) -> Int {
      (try? info.value(parameter, as: cl_uint.self)).map(Int.init) ?? fallback
    }
    func bytes(_ parameter: Int32) -> Int {
      (try? info.value(parameter, as: cl_ulong.self)).map { Int(clamping: $0) } ?? 0
    }
    func flag(_ parameter: Int32, or fallback: Bool) -> Bool {
      (try? info.value(parameter, as: cl_bool.self)).map { $0 != 0 } ?? fallback
    }

    self.handle = handle
    self.platform = platform
    self.index = index
    name = try info.string(CL_DEVICE_NAME)
    let type = try info.value(CL_DEVICE_TYPE, as: cl_device_type.self)
    kind = Self.kind(of: type)

    vendor = text(CL_DEVICE_VENDOR)
    version = text(CL_DEVICE_VERSION)
    clVersion = Version(parsing: version) ?? Version(1, 0)
    clCVersion = Version(parsing: text(CL_DEVICE_OPENCL_C_VERSION)) ?? Version(1, 0)
    driverVersion = text(CL_DRIVER_VERSION)
    isUsable = flag(CL_DEVICE_AVAILABLE, or: true) && flag(CL_DEVICE_COMPILER_AVAILABLE, or: true)
    let extensions = Set(text(CL_DEVICE_EXTENSIONS).split(separator: " ").map(String.init))
    self.extensions = extensions

    computeUnits = max(1, number(CL_DEVICE_MAX_COMPUTE_UNITS, or: 1))
    maxClockMHz = number(CL_DEVICE_MAX_CLOCK_FREQUENCY, or: 0)
    nativeVectorWidthFloat = number(CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, or: 0)
    preferredVectorWidthFloat = max(1, number(CL_DEVICE_PREFERRED_VECTOR_WIDTH_FLOAT, or: 1))
    maxWorkGroupSize = max(1, (try? info.value(CL_DEVICE_MAX_WORK_GROUP_SIZE, as: Int.self)) ?? 1)
    maxWorkItemSizes = (try? info.array(CL_DEVICE_MAX_WORK_ITEM_SIZES, of: Int.self)) ?? [1, 1, 1]

    globalMemoryBytes = bytes(CL_DEVICE_GLOBAL_MEM_SIZE)
    globalCacheBytes = bytes(CL_DEVICE_GLOBAL_MEM_CACHE_SIZE)
    maxAllocationBytes = Self.allocationLimit(
      reported: bytes(CL_DEVICE_MAX_MEM_ALLOC_SIZE), globalMemoryBytes: globalMemoryBytes)
    localMemoryBytes = bytes(CL_DEVICE_LOCAL_MEM_SIZE)
    localMemoryIsDedicated = number(CL_DEVICE_LOCAL_MEM_TYPE, or: 0) == Int(CL_LOCAL)
    baseAddressAlignmentBytes = Self.alignmentBytes(reportedBits: number(CL_DEVICE_MEM_BASE_ADDR_ALIGN, or: 0))

    hasCorrectlyRoundedDivision =
      bytes(CL_DEVICE_SINGLE_FP_CONFIG) & Int(CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT) != 0
    hasFP64 = extensions.contains("cl_khr_fp64") || bytes(CL_DEVICE_DOUBLE_FP_CONFIG) != 0
    hasFP16 = extensions.contains("cl_khr_fp16")
    // The count came with OpenCL 2.1; before it the extension alone tells.
    maxSubGroups = number(CL_DEVICE_MAX_NUM_SUB_GROUPS, or: 0)
    hasSubGroups =
      maxSubGroups > 0 || extensions.contains("cl_khr_subgroups") || extensions.contains("cl_intel_subgroups")
  }

  /// `p:d`, the request that names exactly this device.
  public var path: String { "\(platform.index):\(index)" }

  static func kind(of type: cl_device_type) -> Kind {
    if type & cl_device_type(CL_DEVICE_TYPE_GPU) != 0 { return .gpu }
    if type & cl_device_type(CL_DEVICE_TYPE_CPU) != 0 { return .cpu }
    if type & cl_device_type(CL_DEVICE_TYPE_ACCELERATOR) != 0 { return .accelerator }
    return .other
  }

  /// What a driver that tells no limit of one allocation must take by the OpenCL standard: a quarter of global memory,
  /// and 128 MiB at least.
  static func allocationLimit(reported: Int, globalMemoryBytes: Int) -> Int {
    reported > 0 ? reported : max(globalMemoryBytes / 4, 128 << 20)
  }

  /// Bits to bytes. 128 bytes (the largest OpenCL type, `long16`) where the driver's answer makes no sense:
  /// zero, no whole byte, no power of two, or above a 64 KiB page.
  static func alignmentBytes(reportedBits bits: Int) -> Int {
    let bytes = bits / 8
    guard bits % 8 == 0, bytes > 0, bytes <= 1 << 16, bytes & (bytes - 1) == 0 else { return 128 }
    return bytes
  }
}

extension Device: Hashable, CustomStringConvertible {
  public static func == (a: Device, b: Device) -> Bool { a.handle == b.handle }
  public func hash(into hasher: inout Hasher) { hasher.combine(handle) }
  public var description: String { "\(path) \(name) (\(platform.name), \(kind.rawValue))" }
}
