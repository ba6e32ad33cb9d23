import KeelCore

/// The forms in which the batch norm kernels exist: what they take, how they slice the values, how they are launched.
enum BatchNormForm: String, CaseIterable {
  /// CPU, small [rows, C]: everything in one launch, a work-item for 16 channels.
  case fused
  /// CPU, [rows, C]: a work-item for many channels of some rows.
  case columns
  /// CPU, inner ≥ 8: a work-item for runs of the inner axis.
  case rows
  /// GPU: a work-group for channels and a slice.
  case groups
  /// Anything: a work-item for a channel and a slice, or for an element.
  case naive

  /// Work-items on each axis, and in a group.
  struct Launch {
    let global: [Int]
    let local: [Int]?
  }

  // As in batchnorm.clh and batchnorm_groups.clh.
  private static let columnsOwned = 16
  private static let columnChunk = 256
  private static let columnLine = 1024
  private static let groupItems = 256

  func takes(_ e: ChannelExtents, _ profile: DeviceProfile) -> Bool {
    switch self {
    case .fused, .columns: profile.isCPU && e.inner == 1
    case .rows: profile.isCPU && e.inner >= 8
    case .groups: profile.maxWorkGroupSize >= Self.groupItems
    case .naive: true
    }
  }

  func suits(_ e: ChannelExtents, _ profile: DeviceProfile) -> Bool {
    switch self {
    // Where three launches cost more than full vectors and all cores gain.
    case .fused: e.count <= 1 << 15
    case .groups: !profile.isCPU
    case .columns, .rows, .naive: true
    }
  }

  /// A function of the shape alone, so that the bits do not depend on the device.
  func slices(_ e: ChannelExtents) -> Slices {
    switch self {
    case .columns: Slices(values: e.outer, atLeast: max(64, (1 << 15) / min(e.channels, Self.columnChunk)), of: 8)
    // Whole runs where they are not long: the runs of a slice follow one another in memory, channel after channel.
    case .rows: Slices(values: e.values, atLeast: 2048, of: e.inner <= 1 << 14 ? e.inner : 256)
    case .fused, .groups, .naive: Slices(values: e.values)
    }
  }

  /// The launch of the kernels that sum slices.
  func partialLaunch(_ e: ChannelExtents) -> Launch {
    let slices = slices(e).count
    switch self {
    case .fused: return Launch(global: [divideUp(e.channels, Self.columnsOwned)], local: [1])
    case .columns: return Launch(global: [divideUp(e.channels, Self.columnChunk), slices], local: [1, 1])
    case .rows: return Launch(global: [e.channels, slices], local: [1, 1])
    case .groups:
      var width = 1
      while e.inner == 1, width < min(e.channels, 32) { width *= 2 }
      let height = Self.groupItems / width
      return Launch(global: [divideUp(e.channels, width) * width, slices * height], local: [width, height])
    case .naive: return Launch(global: [e.channels, slices], local: nil)
    }
  }

  /// The launch of the kernels that make y or dx, and how many lines of x a work-item has where it has lines.
  func resultLaunch(_ e: ChannelExtents) -> (launch: Launch, linesPerItem: Int) {
    switch self {
    case .fused: return (partialLaunch(e), 1)
    case .columns:
      let lines = max(1, (1 << 14) / min(e.channels, Self.columnLine))
      let global = [divideUp(e.channels, Self.columnLine), divideUp(e.outer, lines)]
      return (Launch(global: global, local: [1, 1]), lines)
    case .rows:
      let lines = max(1, 4096 / e.inner)
      return (Launch(global: [divideUp(e.outer * e.channels, lines)], local: [1]), lines)
    case .groups:
      // What CUDA devices have at most on the second and the third axis.
      let most = 65535
      let global =
        e.inner == 1 ? [e.channels, min(e.outer, most)] : [e.inner, min(e.channels, most), min(e.outer, most)]
      return (Launch(global: global, local: nil), 1)
    case .naive: return (Launch(global: [e.count], local: nil), 1)
    }
  }

  /// The end of the name of a kernel that sums slices.
  var partialSuffix: String { self == .naive ? "_partial" : "_\(rawValue)" }

  /// The end of the name of a kernel that makes y or dx.
  var resultSuffix: String {
    switch self {
    case .naive: ""
    case .groups: "_grid"
    case .fused, .columns, .rows: "_\(rawValue)"
    }
  }
}
