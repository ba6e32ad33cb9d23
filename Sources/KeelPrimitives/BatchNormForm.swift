import KeelCore

/// The forms in which the batch norm kernels exist: what they take, how they slice the values, how they are launched.
enum BatchNormForm: String, CaseIterable {
  /// CPU, small [rows, C]: everything in one launch, a work-item for 16 channels.
  case fused
  /// CPU, inner ≥ 16, large and a channel small: as `planes`, and the result is written past the caches.
  case streamedPlanes
  /// CPU, inner ≥ 8, a channel small: everything in one launch, a work-item for a channel.
  case planes
  /// CPU, large [rows, C]: as `columns`, and the result is written past the caches.
  case streamedColumns
  /// CPU, [rows, C]: a work-item for many channels of some rows.
  case columns
  /// CPU, large, inner ≥ 16: as `rows`, and the result is written past the caches.
  case streamedRows
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
  private static let mergeChannels = 64
  private static let columnChunk = 256
  private static let columnLine = 256
  private static let groupItems = 256

  func takes(_ e: ChannelExtents, _ profile: DeviceProfile) -> Bool {
    switch self {
    case .fused, .columns: profile.isCPU && e.inner == 1
    // Lines of 64 bytes.
    case .streamedColumns: profile.isCPU && e.inner == 1 && e.channels % 16 == 0
    case .rows, .planes: profile.isCPU && e.inner >= 8
    case .streamedRows, .streamedPlanes: profile.isCPU && e.inner % 16 == 0
    case .groups: profile.maxWorkGroupSize >= Self.groupItems
    case .naive: true
    }
  }

  func suits(_ e: ChannelExtents, _ profile: DeviceProfile) -> Bool {
    switch self {
    // Where three launches cost more than full vectors and all cores gain.
    case .fused: e.count <= 1 << 15
    case .streamedPlanes: Self.hasSmallChannels(e) && isLarge(e)
    case .planes: Self.hasSmallChannels(e)
    case .streamedColumns, .streamedRows: isLarge(e)
    case .groups: !profile.isCPU
    case .columns, .rows, .naive: true
    }
  }

  private func isLarge(_ e: ChannelExtents) -> Bool { e.count * DType.float32.byteCount >= streamedBytes }

  /// Whether a channel of x stays in a core's cache, of half a megabyte or more, and there are some for every core.
  private static func hasSmallChannels(_ e: ChannelExtents) -> Bool {
    e.values * DType.float32.byteCount <= 1 << 19 && e.channels >= 16
  }

  /// Whether statistics and result are one launch.
  var isFused: Bool { self == .fused || self == .planes || self == .streamedPlanes }

  /// A function of the shape alone, so that the bits do not depend on the device.
  func slices(_ e: ChannelExtents) -> Slices {
    switch self {
    case .columns, .streamedColumns:
      Slices(values: e.outer, atLeast: max(64, (1 << 15) / min(e.channels, Self.columnChunk)), of: 8)
    // Whole runs where they are not long: the runs of a slice follow one another in memory, channel after channel.
    case .rows, .streamedRows: Slices(values: e.values, atLeast: 8192, of: e.inner <= 1 << 14 ? e.inner : 256)
    case .fused, .planes, .streamedPlanes, .groups, .naive: Slices(values: e.values)
    }
  }

  /// Work-items along the channels of [rows, C]: the last has up to 15 more, so that few channels are not left alone.
  private static func chunks(_ e: ChannelExtents, of chunk: Int) -> Int { max(divideUp(e.channels - 15, chunk), 1) }

  /// The launch of the kernels that sum slices.
  func partialLaunch(_ e: ChannelExtents) -> Launch {
    let slices = slices(e).count
    switch self {
    case .fused: return Launch(global: [Self.chunks(e, of: Self.columnsOwned)], local: [1])
    case .planes, .streamedPlanes: return Launch(global: [e.channels], local: [1])
    case .columns, .streamedColumns:
      return Launch(global: [Self.chunks(e, of: Self.columnChunk), slices], local: [1, 1])
    case .rows, .streamedRows: return Launch(global: [e.channels, slices], local: [1, 1])
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
    case .fused, .planes, .streamedPlanes: return (partialLaunch(e), 1)
    case .columns, .streamedColumns:
      let lines = max(1, (1 << 14) / min(e.channels, Self.columnLine))
      let global = [Self.chunks(e, of: Self.columnLine), divideUp(e.outer, lines)]
      return (Launch(global: global, local: [1, 1]), lines)
    case .rows, .streamedRows:
      let lines = max(1, (1 << 14) / e.inner)
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

  /// The launch of the kernels that merge slices, and the end of their names.
  func mergeLaunch(_ e: ChannelExtents) -> (launch: Launch, suffix: String) {
    switch self {
    case .groups, .naive: (Launch(global: [e.channels], local: nil), "")
    default: (Launch(global: [divideUp(e.channels, Self.mergeChannels)], local: [1]), "_lanes")
    }
  }

  /// The end of the name of a kernel that does everything.
  var fusedSuffix: String { "_\(kernels)" }

  /// The end of the name of a kernel that sums slices.
  var partialSuffix: String { self == .naive ? "_partial" : "_\(kernels)" }

  /// The end of the name of a kernel that makes y or dx.
  var resultSuffix: String {
    switch self {
    case .naive: ""
    case .groups: "_grid"
    default: "_\(kernels)"
    }
  }

  private var kernels: String {
    switch self {
    case .streamedColumns: Self.columns.rawValue
    case .streamedRows: Self.rows.rawValue
    case .streamedPlanes: Self.planes.rawValue
    default: rawValue
    }
  }

  /// The parameters of the kernels.
  func define(in spec: inout ProgramSpec, _ e: ChannelExtents) {
    if [.streamedRows, .streamedColumns, .streamedPlanes].contains(self) { spec.define("STREAMS", "1") }
    if e.inner == 1, e.channels < 16 { spec.define("COLUMN_LANES", "8") }
    if (8..<16).contains(e.inner) { spec.define("RUN_LANES", "8") }
  }
}
