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
  ///   - profile: what the choice of kernels is to take the device for; nil for what it is, with what was tuned for it.
  ///   - profiling: whether events tell the time of launches.
  ///   - environment: `KEEL_KERNELS_DIR`, `KEEL_CACHE_DIR`, `KEEL_TUNE_DIR` and `KEEL_DEBUG` are read from it.
  public init(
    _ device: Device, profile: DeviceProfile? = nil, profiling: Bool = false,
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws {
    self.device = device
    let source = KernelSource(directory: environment["KEEL_KERNELS_DIR"])
    let debugLevel = try Self.debugLevel(environment)
    self.profile =
      profile
      ?? {
        var profile = DeviceProfile(device)
        profile.tuned = TuningDatabase(environment: environment)
          .variants(for: device, source, isVerbose: debugLevel > 0)
        return profile
      }()
    context = try Context(device: device)
    queue = try Queue(context: context, profiling: profiling)
    programs = ProgramLibrary(
      context: context, source: source, cache: BinaryCache(environment: environment),
      showsSources: debugLevel > 1)
  }

  /// What `KEEL_DEBUG` says: 0 where it is not set or empty. Throws for what is none of its levels.
  public static func debugLevel(_ environment: [String: String]) throws -> Int {
    let text = environment["KEEL_DEBUG"] ?? ""
    guard let level = text.isEmpty ? 0 : Int(text), (0...2).contains(level) else {
      throw PrimitiveError("context", "KEEL_DEBUG expects 0, 1 or 2, got \(text)")
    }
    return level
  }

  private init(_ other: ComputeContext, profile: DeviceProfile) {
    self.profile = profile
    device = other.device
    context = other.context
    queue = other.queue
    programs = other.programs
  }

  /// The same device, queue and programs, for binding launches that are to be merged.
  public var merging: ComputeContext {
    var profile = profile
    profile.sharesShortWork = true
    return ComputeContext(self, profile: profile)
  }

  /// A buffer of its own; `pattern` fills it.
  public func buffer(byteCount: Int, filledWith pattern: [UInt8] = [0]) throws -> Buffer {
    let buffer = try Buffer(context: context, byteCount: byteCount)
    try queue.fill(buffer, pattern: pattern)
    return buffer
  }
}
