import Foundation
import KeelCL
import KeelKernels

/// A device made ready for work: context, in-order queue, profile, and the programs built so far.
public final class ComputeContext {
  /// The device itself.
  public let device: Device
  /// What the choice of kernels needs to know of it.
  public let profile: DeviceProfile
  /// Where buffers and programs live.
  public let context: Context
  /// The one queue; commands run in order.
  public let queue: Queue
  /// The programs built so far.
  public let programs: ProgramLibrary

  /// - Parameters:
  ///   - profile: what the choice of kernels is to take the device for; nil for what it is.
  ///   - profiling: whether events tell the time of launches.
  ///   - environment: `KEEL_KERNELS_DIR`, `KEEL_CACHE_DIR` and `KEEL_DEBUG` are read from it.
  public init(
    _ device: Device, profile: DeviceProfile? = nil, profiling: Bool = false,
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws {
    self.device = device
    self.profile = profile ?? DeviceProfile(device)
    context = try Context(device: device)
    queue = try Queue(context: context, profiling: profiling)
    programs = ProgramLibrary(
      context: context, source: KernelSource(directory: environment["KEEL_KERNELS_DIR"]),
      cache: BinaryCache(environment: environment),
      showsSources: (environment["KEEL_DEBUG"].flatMap { Int($0) } ?? 0) >= 2)
  }

  /// A buffer of its own; `pattern` fills it.
  public func buffer(byteCount: Int, filledWith pattern: [UInt8] = [0]) throws -> Buffer {
    let buffer = try Buffer(context: context, byteCount: byteCount)
    try queue.fill(buffer, pattern: pattern)
    return buffer
  }
}
