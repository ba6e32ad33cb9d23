import KeelCL
import KeelCore

/// Where the samples of a data set are while a trainer works with them. Results are the same bits either way.
public enum DataPlacement: String, Sendable, Codable, CaseIterable {
  /// Resident where a set takes no more than a third of the device's memory and its features and targets each fit into
  /// one buffer; else streamed.
  case automatic
  /// The device holds all samples.
  case resident
  /// The device holds two windows of samples, of some 8 MiB each: it works on one while the host gathers the samples
  /// that come next into the other. A set that is no larger than the two is resident.
  case streamed

  /// Why a data set is streamed, as "as asked for"; nil where it is resident, or no data set.
  ///
  /// - Parameter batchSize: samples of a step.
  public func streamingReason(_ data: any SampleSource, batchSize: Int, on device: Device) -> String? {
    streamingReason(data, batchSize: batchSize, on: device, windowBytes: Self.windowBytes)
  }

  func streamingReason(
    _ data: any SampleSource, batchSize: Int, on device: Device, windowBytes: Int
  ) -> String? {
    guard self != .resident, batchSize > 0, (try? data.validate()) != nil else { return nil }
    let batchSize = min(batchSize, data.count)
    let steps = Self.windowSteps(data, batchSize: batchSize, windowBytes: windowBytes)
    guard data.count > 2 * steps * batchSize else { return nil }
    if self == .streamed { return "as asked for" }
    let parts = [("features", data.featureType.byteCount), ("targets", data.targetType.byteCount)]
    for (part, bytes) in parts where bytes > device.maxAllocationBytes {
      return "its \(part) of \(bytes) bytes exceed the device's largest buffer of \(device.maxAllocationBytes)"
    }
    let limit = device.globalMemoryBytes / 3
    let bytes = parts[0].1 + parts[1].1
    return bytes <= limit ? nil : "its \(bytes) bytes exceed \(limit), a third of the device's memory"
  }

  /// Large enough that what happens once a window costs nothing, small enough for the caches of a processor.
  static let windowBytes = 8 << 20

  /// Full batches of a window: as many as its bytes hold, one at least, and where there are enough of them a multiple of
  /// those after which `fit` waits anyway.
  static func windowSteps(_ data: any SampleSource, batchSize: Int, windowBytes: Int) -> Int {
    let steps = max(windowBytes / (data.featureBytes + data.targetBytes) / batchSize, 1)
    return steps < Trainer.stepsPerWait ? steps : steps / Trainer.stepsPerWait * Trainer.stepsPerWait
  }
}
