import KeelCL

/// What the choice of kernels and the memory plan need to know of a device: read from it, never assumed.
public struct DeviceProfile: Hashable, Sendable {
  public var name: String
  /// CPU devices run explicit vector tiles in few large work-items, others many small work-items.
  public var isCPU: Bool
  public var computeUnits: Int
  public var hasFP64: Bool
  public var maxWorkGroupSize: Int
  /// Of sub-buffers, in bytes.
  public var alignment: Int
  public var maxAllocationBytes: Int

  public init(_ device: Device) {
    name = device.name
    isCPU = device.kind == .cpu
    computeUnits = device.computeUnits
    hasFP64 = device.hasFP64
    maxWorkGroupSize = device.maxWorkGroupSize
    alignment = device.baseAddressAlignmentBytes
    maxAllocationBytes = device.maxAllocationBytes
  }
}
