import KeelCore

/// x seen as [outer, channels, inner]; [N, C] and channels-last layouts have inner = 1.
public struct ChannelExtents: Hashable, Sendable {
  /// Product of the extents before the channels.
  public var outer: Int
  /// Channels.
  public var channels: Int
  /// Product of the extents behind the channels.
  public var inner: Int

  /// The extents of `shape`, whose channels are at `axis`, one of `0..<rank`.
  public init(_ shape: Shape, axis: Int) {
    outer = shape.dimensions[..<axis].reduce(1, *)
    channels = shape[axis]
    inner = shape.dimensions[(axis + 1)...].reduce(1, *)
  }

  var count: Int { outer * channels * inner }
  /// Values of a channel.
  var values: Int { outer * inner }
  var label: String { "\(outer)×\(channels)" + (inner == 1 ? "" : "×\(inner)") }
  var sizes: [KernelArgument] { [.int(outer), .int(channels), .int(inner)] }
}
