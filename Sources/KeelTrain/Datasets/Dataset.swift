import KeelCore

/// Examples and what is to be learnt of them, in host memory, as they are stored.
public struct Dataset: SampleSource {
  /// For messages and for the description of a saved model.
  public let name: String
  /// `[n, ...]`, `u8` or `f32`.
  public let features: HostTensor
  /// Class labels `i32[n]`, each in 0..<classCount, or for a regression `f32[n, ...]`.
  public let targets: HostTensor
  /// 0 for a regression.
  public let classCount: Int
  /// What a network sees is a stored feature times this: 1/255 makes 8-bit pixels run from 0 to 1.
  public let scale: Double

  /// Throws ``DatasetError`` when features, labels and class count do not fit each other or there is no example.
  public init(name: String, features: HostTensor, labels: HostTensor, classCount: Int, scale: Double = 1) throws {
    guard classCount > 0 else { throw DatasetError(name, "expects at least one class, got \(classCount)") }
    try self.init(name: name, features: features, targets: labels, classCount: classCount, scale: scale)
    for (index, label) in labels.doubles.enumerated() where label < 0 || label >= Double(classCount) {
      throw DatasetError(name, "label \(Int(label)) at index \(index), expected 0…\(classCount - 1)")
    }
  }

  /// A regression: targets are real numbers of the network's output shape. Throws as above.
  public init(name: String, features: HostTensor, targets: HostTensor, scale: Double = 1) throws {
    try self.init(name: name, features: features, targets: targets, classCount: 0, scale: scale)
  }

  private init(name: String, features: HostTensor, targets: HostTensor, classCount: Int, scale: Double) throws {
    self.name = name
    self.features = features
    self.targets = targets
    self.classCount = classCount
    self.scale = scale
    try validate()
  }

  /// Type of all features.
  public var featureType: TensorType { features.type }

  /// Type of all targets.
  public var targetType: TensorType { targets.type }

  /// Copies samples. Throws when there are none of these indices, or more than there is room for.
  public func read(
    _ samples: ArraySlice<Int32>, features: inout MutableRawSpan, targets: inout MutableRawSpan
  ) throws {
    guard features.copyRows(samples, of: self.features.bytes, rowBytes: featureBytes),
      targets.copyRows(samples, of: self.targets.bytes, rowBytes: targetBytes)
    else { throw DatasetError(name, "expects indices in 0..<\(count), and room for \(samples.count) examples") }
  }

  /// The examples of a range, in order. Throws when the range is empty or there are no such examples.
  public func rows(_ range: Range<Int>) throws -> Dataset {
    guard range.lowerBound >= 0, range.upperBound <= count, !range.isEmpty else {
      throw DatasetError(name, "expects examples of 0..<\(count), got \(range)")
    }
    return try Dataset(
      name: name, features: features.rows(range), targets: targets.rows(range), classCount: classCount, scale: scale)
  }

  /// The first `length` examples, all of them when there are no more. Throws when `length` is below 1.
  public func prefix(_ length: Int) throws -> Dataset {
    guard length > 0 else { throw DatasetError(name, "expects a prefix of at least 1 example, got \(length)") }
    return length >= count ? self : try rows(0..<length)
  }
}

/// What to learn from and what to be judged by.
public struct DatasetPair: Sendable {
  /// What is learnt from.
  public let train: Dataset
  /// What is evaluated on.
  public let test: Dataset

  /// Throws ``DatasetError`` when the two are not examples of one thing: shape, type, scale or classes differ.
  public init(train: Dataset, test: Dataset) throws {
    guard train.featureShape == test.featureShape, train.features.dtype == test.features.dtype,
      train.scale == test.scale
    else {
      throw DatasetError(
        test.name,
        "expects examples as in training, \(train.features.type) × \(train.scale), "
          + "got \(test.features.type) × \(test.scale)")
    }
    guard train.classCount == test.classCount else {
      throw DatasetError(test.name, "expects \(train.classCount) classes as in training, got \(test.classCount)")
    }
    self.train = train
    self.test = test
  }
}

/// A data set does not fit together: `[dataset] mnist: 60000 examples u8[60000, 28, 28] for 59999 labels`.
public struct DatasetError: Error, Equatable, CustomStringConvertible {
  /// As `[dataset] digits: expects …, got …`.
  public let description: String

  /// An error in the data set of this name: what was expected, what came.
  public init(_ name: String, _ offence: String) { description = "[dataset] \(name): \(offence)" }
}
