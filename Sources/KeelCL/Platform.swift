internal import COpenCL
import Foundation

/// One OpenCL implementation (a driver) as the ICD loader lists it.
// Sendable unchecked: an immutable handle; OpenCL calls on it are thread-safe.
public final class Platform: @unchecked Sendable {
  let handle: cl_platform_id

  /// Position in the loader's list, the `p` of a `p:d` device request.
  public let index: Int
  /// The driver's name, e.g. `Portable Computing Language`.
  public let name: String
  /// Who made the driver.
  public let vendor: String
  /// E.g. `OpenCL 3.0 PoCL 3.1`.
  public let version: String

  private init(_ handle: cl_platform_id, index: Int) throws(CLError) {
    let info = Info(call: "clGetPlatformInfo", subject: "platform \(index)") {
      clGetPlatformInfo(handle, $0, $1, $2, $3)
    }
    self.handle = handle
    self.index = index
    name = try info.string(CL_PLATFORM_NAME)
    vendor = try info.string(CL_PLATFORM_VENDOR)
    version = try info.string(CL_PLATFORM_VERSION)
  }

  /// Every platform that answers; one that does not is left out (`Device.discover` names it).
  ///
  /// - Throws: `CLError` with what to install when the loader finds no platform at all.
  public static func all() throws(CLError) -> [Platform] {
    try discover().found
  }

  /// Drivers set themselves up when they are first asked for devices, and not all bear to be asked by two threads then
  /// (pocl 3.1 shows devices that have no name yet): the first question is put once, and everybody waits for it.
  private static let firstUse: Void = {
    DriverSettings.apply()
    var count: cl_uint = 0
    guard clGetPlatformIDs(0, nil, &count) == CL_SUCCESS else { return }
    var platforms = [cl_platform_id?](repeating: nil, count: Int(count))
    clGetPlatformIDs(count, &platforms, nil)
    for platform in platforms { clGetDeviceIDs(platform, cl_device_type(CL_DEVICE_TYPE_ALL), 0, nil, &count) }
  }()

  static func discover() throws(CLError) -> Survey<Platform> {
    Self.firstUse
    var count: cl_uint = 0
    let status = clGetPlatformIDs(0, nil, &count)
    guard status != platformNotFound, status != CL_SUCCESS || count > 0 else {
      throw CLError(call: "clGetPlatformIDs", code: platformNotFound, detail: CLError.installAdvice)
    }
    try check(status, "clGetPlatformIDs")
    var handles = [cl_platform_id?](repeating: nil, count: Int(count))
    try check(clGetPlatformIDs(count, &handles, nil), "clGetPlatformIDs")

    return Survey(handles.indices.map { ("platform \($0)", $0) }) { index throws(CLError) in
      guard let handle = handles[index] else {
        throw CLError(call: "clGetPlatformIDs", subject: "platform \(index)", code: CL_INVALID_PLATFORM)
      }
      return [try Platform(handle, index: index)]
    }
  }

  /// Every device of the platform that answers; empty for a platform without devices.
  public func devices() throws(CLError) -> [Device] {
    try discoverDevices().found
  }

  func discoverDevices() throws(CLError) -> Survey<Device> {
    let all = cl_device_type(CL_DEVICE_TYPE_ALL)
    var count: cl_uint = 0
    let status = clGetDeviceIDs(handle, all, 0, nil, &count)
    guard status != CL_DEVICE_NOT_FOUND else { return Survey() }
    try check(status, "clGetDeviceIDs", name)
    guard count > 0 else { return Survey() }
    var handles = [cl_device_id?](repeating: nil, count: Int(count))
    try check(clGetDeviceIDs(handle, all, count, &handles, nil), "clGetDeviceIDs", name)

    return Survey(handles.indices.map { ("\(name), device \($0)", $0) }) { index throws(CLError) in
      guard let handle = handles[index] else {
        throw CLError(call: "clGetDeviceIDs", subject: self.name, code: CL_INVALID_DEVICE)
      }
      return [try Device(handle, platform: self, index: index)]
    }
  }
}

/// `CL_PLATFORM_NOT_FOUND_KHR`, which lives in a header of the ICD loader, not in `cl.h`.
private let platformNotFound: Int32 = -1001

/// What answered, and what did not: asking many drivers, none of which may hide the others.
struct Survey<Found> {
  private(set) var found: [Found] = []
  private(set) var failures: [Discovery.Failure] = []

  init() {}

  init<Item>(_ items: [(name: String, item: Item)], ask: (Item) throws(CLError) -> [Found]) {
    for (name, item) in items {
      do { found += try ask(item) } catch { failures.append(Discovery.Failure(what: name, error: error)) }
    }
  }
}

/// The devices of all platforms, and the platforms and devices that failed to answer.
public struct Discovery: Sendable {
  /// A platform or device that could not be used, and why.
  public struct Failure: Sendable, CustomStringConvertible {
    /// The platform, or the device of it.
    public let what: String
    /// What it answered.
    public let error: CLError
    public var description: String { error.subject == what ? "\(error)" : "\(what): \(error)" }
  }

  /// By platform and then by position.
  public let devices: [Device]
  /// What did not answer.
  public let failures: [Failure]
}
