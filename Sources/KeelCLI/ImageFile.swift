import Foundation
import Keel

/// Images to classify: as the network sees them before its own scaling, each with a name.
struct Images {
  /// `[n, ...]`.
  var values: HostTensor
  /// What the values are multiplied by.
  var scale: Double
  var names: [String]
  /// What they show, where that is known.
  var labels: [Int]?
}

extension Images {
  /// Reads a file: a PGM or an IDX file, which its content tells, each plain or gzip.
  ///
  /// An IDX file holds stored values as those of the training data. The grey of a PGM file goes from 0, black, to 1,
  /// white, as that of Keel's data sets does.
  /// - Throws: `FormatError`, also when the file holds no image.
  init(reading path: String, sampleShape: Shape, scale: Double) throws {
    let bytes = try FileBytes.read(path, format: "image")
    if bytes.starts(with: Array("P".utf8)) {
      let image = try PGM.decode(bytes, name: path)
      let shape = Shape([1] + image.pixels.shape.dimensions)
      try self.init(values: image.normalized.reshaped(to: shape), scale: 1, names: [path])
    } else {
      guard bytes.starts(with: [0, 0]) else {
        throw FormatError("image", path, "expected a PGM or an IDX file, got neither")
      }
      let tensor = try IDX.decode(bytes, name: path)
      let isOne = tensor.shape == sampleShape
      guard isOne || tensor.shape.rank > 1 else {
        throw FormatError("idx", path, "expected images, got \(tensor.type): labels?")
      }
      let values = isOne ? try tensor.reshaped(to: Shape([1] + sampleShape.dimensions)) : tensor
      let names = isOne ? [path] : (0..<values.shape[0]).map { "\(path) \($0)" }
      self.init(values: values, scale: scale, names: names)
    }
  }

  /// Images of a data set. Throws when there is no image of an index.
  init(_ data: Dataset, indices: [Int], name: String) throws {
    guard let first = indices.first else { throw CommandError("predict", "expects at least one index, got none") }
    for index in indices where !(0..<data.count).contains(index) {
      throw CommandError("predict", "\(name) has test images 0…\(data.count - 1), got --index \(index)")
    }
    let rows = try indices.map { try data.features.rows($0..<$0 + 1) }
    let type = TensorType(Shape([indices.count] + data.featureShape.dimensions), data.features.dtype)
    let labels = data.targets.doubles
    self.init(
      values: indices.count == 1
        ? try data.features.rows(first..<first + 1) : try HostTensor(type, bytes: rows.flatMap(\.bytes)),
      scale: data.scale, names: indices.map { "\(name) \($0)" }, labels: indices.map { Int(labels[$0]) })
  }

  var sampleShape: Shape { Shape(Array(values.shape.dimensions.dropFirst())) }

  /// Black for white: a network that learnt light digits on dark is shown dark ink on light paper.
  func inverted() throws -> Images {
    var result = self
    let white = 1 / scale
    result.values = try HostTensor(TensorType(values.shape, .float32), values: values.doubles.map { white - $0 })
    return result
  }
}
