import KeelCore

/// 64 bits that tell results with other bits from each other: FNV-1a, fed with eight bytes at a time. NaNs are all the
/// same, since OpenCL fixes neither their sign nor their payload.
public struct Digest: Sendable, Hashable, CustomStringConvertible {
  private var state: UInt64 = 0xCBF2_9CE4_8422_2325

  public init() {}

  public mutating func add(_ bits: UInt64) {
    for shift in stride(from: UInt64(0), to: 64, by: 8) {
      state = (state ^ (bits >> shift & 0xFF)) &* 0x100_0000_01B3
    }
  }

  public mutating func add(_ digest: Digest) { add(digest.state) }

  mutating func add(_ tensor: HostTensor) {
    for value in tensor.doubles { add(value.isNaN ? Double.nan.bitPattern : value.bitPattern) }
  }

  /// Sixteen hexadecimal digits.
  public var description: String {
    let digits = String(state, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}
