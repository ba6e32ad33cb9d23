import KeelCL

/// What the choice of kernels and the memory plan need to know of a device: read from it, never assumed.
public struct DeviceProfile: Hashable, Sendable {
  /// For errors.
  public var name: String
  /// CPU devices run explicit vector tiles in few large work-items, others many small work-items.
  public var isCPU: Bool
  /// Cores or multiprocessors.
  public var computeUnits: Int
  /// Floats in a vector register; 0 where the driver does not tell.
  public var vectorFloats: Int
  /// Most work-items in a group.
  public var maxWorkGroupSize: Int
  /// Local memory of a work-group, in bytes.
  public var localMemoryBytes: Int
  /// Whether kernels can use `double`.
  public var hasFP64: Bool
  /// Of sub-buffers, in bytes.
  public var alignment: Int
  /// The largest buffer, in bytes.
  public var maxAllocationBytes: Int
  /// Whether cores are awake already, as they are within a merged launch: then work of a microsecond is worth sharing.
  public var sharesShortWork = false
  /// Variants to prefer, as measured on it; a profile by itself has none.
  public var tuned = TunedVariants()

  /// Most workers of a merged launch; nil where launches are not merged.
  public var mostWorkers: Int? { isCPU ? max(min(computeUnits, MergedProgram.mostWorkers), 1) : nil }

  /// The facts of `device`.
  public init(_ device: Device) {
    name = device.name
    isCPU = device.kind == .cpu
    computeUnits = device.computeUnits
    vectorFloats = device.nativeVectorWidthFloat
    maxWorkGroupSize = device.maxWorkGroupSize
    localMemoryBytes = device.localMemoryBytes
    hasFP64 = device.hasFP64
    alignment = device.baseAddressAlignmentBytes
    maxAllocationBytes = device.maxAllocationBytes
  }
}
