import KeelCL
import KeelCore

/// Samples and what is to be learnt of them, wherever they are: in memory (``Dataset``), in a mapped file, computed.
///
/// The trainer asks for a sample when it is about to need it, from a thread of its own, one call at a time. The same
/// sample must have the same bytes whenever it is asked for.
public protocol SampleSource: Sendable {
  /// For messages.
  var name: String { get }
  /// `[n, …]`, `u8` or `f32`.
  var featureType: TensorType { get }
  /// Class labels `i32[n]`, or for a regression `f32[n, …]`.
  var targetType: TensorType { get }
  /// Labels are in 0..<classCount; 0 for a regression.
  var classCount: Int { get }
  /// What a network sees is a stored feature times this.
  var scale: Double { get }

  /// Writes samples, one after the other, in the given order.
  ///
  /// - Parameters:
  ///   - samples: indices in 0..<n.
  ///   - features: room for the features of as many samples; their elements in native byte order.
  ///   - targets: room for the targets.
  /// - Throws: whatever stands in the way. `fit` then ends with a ``SampleError``, and the model has what was learnt
  ///   before.
  func read(_ samples: ArraySlice<Int32>, features: inout MutableRawSpan, targets: inout MutableRawSpan) throws
}

extension SampleSource {
  /// Number of examples.
  public var count: Int { targetType.shape.rank == 0 ? 0 : targetType.shape[0] }

  /// The shape of one example, `[28, 28]`.
  public var featureShape: Shape { Shape(Array(featureType.shape.dimensions.dropFirst())) }

  /// Number of values of one example, 784.
  public var featureCount: Int { featureShape.count }

  /// Bytes of the features of one example.
  var featureBytes: Int { featureType.byteCount / count }
  /// Bytes of the targets of one example.
  var targetBytes: Int { targetType.byteCount / count }

  /// Throws ``DatasetError`` when features, targets, class count and scale do not fit each other, or there is no example.
  func validate() throws {
    let (features, targets) = (featureType, targetType)
    if classCount > 0 {
      guard targets.dtype == .int32, targets.shape.rank == 1 else {
        throw DatasetError(name, "expects labels i32[n], got \(targets)")
      }
    } else {
      guard classCount == 0 else { throw DatasetError(name, "expects at least one class, got \(classCount)") }
      guard targets.dtype == .float32, targets.shape.rank >= 1 else {
        throw DatasetError(name, "expects targets f32[n, ...], got \(targets)")
      }
    }
    guard features.dtype == .uint8 || features.dtype == .float32, features.shape.rank >= 2 else {
      throw DatasetError(name, "expects features u8[n, ...] or f32[n, ...], got \(features)")
    }
    guard features.shape[0] == targets.shape[0] else {
      let kind = classCount > 0 ? "labels" : "targets"
      throw DatasetError(name, "\(features.shape[0]) examples \(features) for \(targets.shape[0]) \(kind)")
    }
    guard features.shape.dimensions.allSatisfy({ $0 > 0 }) else {
      throw DatasetError(name, "expects at least one example, got \(features)")
    }
    guard targets.shape.dimensions.allSatisfy({ $0 > 0 }) else {
      throw DatasetError(name, "expects targets with elements, got \(targets)")
    }
    guard count <= Int(Int32.max), max(features.byteCount, targets.byteCount) <= Int.max / 4 else {
      throw DatasetError(name, "expects at most \(Int32.max) examples, got \(features)")
    }
    guard scale.isFinite, scale > 0 else { throw DatasetError(name, "expects a scale above 0, got \(scale)") }
  }

  /// Reads samples and checks their labels.
  func readChecked(
    _ samples: ArraySlice<Int32>, features: inout MutableRawSpan, targets: inout MutableRawSpan
  ) throws {
    try read(samples, features: &features, targets: &targets)
    guard classCount > 0, let wrong = targets.firstInt32(outside: 0..<Int32(clamping: classCount)) else { return }
    throw DatasetError(
      name,
      "label \(wrong.value) at index \(samples[samples.startIndex + wrong.position]), expected 0…\(classCount - 1)")
  }

  /// The first of `samples` with a feature or a target that is infinite or not a number; nil when there is none, or it
  /// cannot be read.
  func firstNonFinite(_ samples: some Sequence<Int>) -> Int? {
    samples.first { index in
      var features = [UInt8](repeating: 0, count: featureBytes)
      var targets = [UInt8](repeating: 0, count: targetBytes)
      do {
        var featureSpan = features.mutableSpan
        var targetSpan = targets.mutableSpan
        var featureBytes = featureSpan.mutableBytes
        var targetBytes = targetSpan.mutableBytes
        try read([Int32(index)], features: &featureBytes, targets: &targetBytes)
      } catch { return false }
      let rows = [(featureType, features), (targetType, targets)]
      return rows.contains { type, bytes in
        guard type.dtype.isFloatingPoint,
          let row = try? HostTensor(TensorType([type.count / count], type.dtype), bytes: bytes)
        else { return false }
        return !row.doubles.allSatisfy(\.isFinite)
      }
    }
  }
}

/// Samples that could not be read in the middle of a call.
public struct SampleError: Error, CustomStringConvertible {
  /// The name of the data.
  public let data: String
  /// What ``SampleSource/read(_:features:targets:)`` threw.
  public let underlying: any Error
  /// The epochs before, when the call was `fit`.
  public internal(set) var history = History()

  public var description: String { "[train] samples of \(data) could not be read: \(underlying)" }
}
