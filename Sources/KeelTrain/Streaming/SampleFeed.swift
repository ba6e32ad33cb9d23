import Dispatch
import KeelCL
import KeelCore
import KeelGraph
import KeelRuntime

/// Brings the samples of an epoch to the device, in their order.
///
/// Resident, the device has all of them and finds a batch by the order. Streamed, it has two windows: each holds the
/// samples of some steps in the order in which these take them. While the steps of one run, another thread fills the
/// other; each has variables of its own, so a step is compiled for both.
final class SampleFeed {
  /// The windows of an epoch; one where all samples are resident.
  let windows: [EpochWindow]
  /// The names of each window's variables. Order and cursor are the same ones.
  let slots: [DataNames]
  /// Types of features and targets on the device.
  let features: TensorType
  let targets: TensorType

  private let source: any SampleSource
  private let variables: VariableStore
  /// Windows are filled by a queue of their own, so that they need not wait for the steps of the other.
  private let queue: Queue
  /// That of the epoch; nil for that of the data.
  private var order: [Int32]?
  /// Orders on their way to the device, in turns: the one before may still be under way.
  private var orders: [HostMemory] = []
  /// What the cursor says of sample and step where an epoch begins.
  private let firstRow = HostMemory(byteCount: 2 * MemoryLayout<Int32>.size)
  private var filling: Filling?

  var isStreamed: Bool { slots.count > 1 }

  init(
    _ source: any SampleSource, _ plan: EpochPlan, _ names: DataNames, _ placement: DataPlacement, windowBytes: Int,
    _ variables: VariableStore
  ) throws {
    self.source = source
    self.variables = variables
    let batch = plan.batches[0]
    let isStreamed =
      placement.streamingReason(
        source, batchSize: batch, on: variables.context.device, windowBytes: windowBytes) != nil
    let steps =
      isStreamed ? DataPlacement.windowSteps(source, batchSize: batch, windowBytes: windowBytes) : plan.steps
    windows = plan.windows(ofSteps: steps)
    slots = isStreamed ? [names, names.second] : [names]
    queue = isStreamed ? try Queue(context: variables.context.context) : variables.context.queue
    func type(_ whole: TensorType) -> TensorType {
      let rows = isStreamed ? steps * batch : source.count
      return TensorType(Shape([rows] + whole.shape.dimensions.dropFirst()), whole.dtype)
    }
    features = type(source.featureType)
    targets = type(source.targetType)
    try firstRow.store([Int32(0), 0])
  }

  deinit { filling?.wait() }

  /// A step on batches of `rows` samples of one of the `slots`, of an epoch of `steps`.
  func shape(_ names: DataNames, rows: Int, steps: Int) -> StepShape {
    StepShape(
      names: names, rows: rows, features: features, targets: targets, scale: source.scale, steps: steps)
  }

  /// What has to be declared before `upload`.
  var needs: [Variable] {
    slots.flatMap { [Variable($0.features, features, .data), Variable($0.targets, targets, .data)] }
      + [
        Variable(slots[0].order, TensorType([features.shape[0]], .int32), .control),
        Variable(slots[0].cursor, Cursor.type, .control),
      ]
  }

  /// Once, after the variables were declared: writes what stays the same for all epochs.
  func upload() throws {
    let rows = (0..<Int32(features.shape[0])).map { $0 }
    try variables.write(slots[0].order, HostTensor([rows.count], rows))
    if isStreamed { return }
    let chunk = max(DataPlacement.windowBytes / source.featureBytes, 1)
    let room = try Room(variables, slots[0])
    for start in stride(from: 0, to: rows.count, by: chunk) {
      let samples = rows[start..<min(start + chunk, rows.count)]
      try room.fill(samples, of: source, at: start, by: queue)
    }
  }

  /// Begins an epoch behind the commands given so far: its order, and the cursor at its beginning. The count of the
  /// optimizer's steps stays. Does not wait for the device, but for a resident order of more than 2¹⁸ samples: its
  /// write ends when all commands given so far have, so that the device has nothing to do until more are given.
  ///
  /// - Parameter order: indices of all samples; nil, and then in all epochs, for the order of the data.
  func begin(_ order: [Int32]? = nil) throws {
    try variables.context.queue.write(variables.buffer(slots[0].cursor), from: firstRow)
    if isStreamed {
      filling?.wait()
      self.order = order
      try fill(windows[0])
    } else if let order {
      let buffer = try variables.buffer(slots[0].order)
      if order.count > Self.longOrder { return try queue.write(buffer, order) }
      if orders.isEmpty { orders = (0..<2).map { _ in HostMemory(byteCount: order.count * MemoryLayout<Int32>.size) } }
      orders.swapAt(0, 1)
      try orders[0].store(order)
      try queue.write(buffer, from: orders[0])
    }
  }

  /// Longer ones are not copied on their way: that takes longer than to wait for the device.
  static let longOrder = 1 << 18

  /// Has the window's samples on the device and the cursor at the first of them. Windows are opened in order; the steps
  /// of the one before are waited for.
  func open(_ window: EpochWindow) throws {
    guard isStreamed else { return }
    try filling?.result()
    if window.number > 0 {
      let cursor = try variables.read(slots[0].cursor).doubles.map { Int32($0) }
      try variables.write(slots[0].cursor, HostTensor([3], [0] + cursor.dropFirst()))
    }
    if window.number + 1 < windows.count { try fill(windows[window.number + 1]) }
  }

  private func fill(_ window: EpochWindow) throws {
    let samples = order?[window.samples] ?? window.samples.map { Int32($0) }[...]
    filling = Filling(try Room(variables, slots[window.slot]), samples, of: source, by: queue)
  }
}

/// Where samples go.
private struct Room: Sendable {
  let features: Buffer
  let targets: Buffer

  init(_ variables: VariableStore, _ names: DataNames) throws {
    features = try variables.buffer(names.features)
    targets = try variables.buffer(names.targets)
  }

  /// Reads samples into the rows from `row` on; the device has them afterwards.
  func fill(_ samples: ArraySlice<Int32>, of source: any SampleSource, at row: Int, by queue: Queue) throws {
    let (featureBytes, targetBytes) = (source.featureBytes, source.targetBytes)
    try queue.write(features, offset: row * featureBytes, byteCount: samples.count * featureBytes) { features in
      try queue.write(targets, offset: row * targetBytes, byteCount: samples.count * targetBytes) { targets in
        do {
          try source.readChecked(samples, features: &features, targets: &targets)
        } catch {
          throw SampleError(data: source.name, underlying: error)
        }
      }
    }
  }
}

/// A window that is being filled, on another thread and by a queue of its own.
// Sendable unchecked: the error is written before the group is left, and read when it has been.
private final class Filling: @unchecked Sendable {
  private let group = DispatchGroup()
  private var error: (any Error)?

  init(_ room: Room, _ samples: ArraySlice<Int32>, of source: any SampleSource, by queue: Queue) {
    DispatchQueue.global(qos: .userInitiated).async(group: group) {
      do { try room.fill(samples, of: source, at: 0, by: queue) } catch { self.error = error }
    }
  }

  func wait() { group.wait() }

  func result() throws {
    wait()
    if let error { throw error }
  }
}
