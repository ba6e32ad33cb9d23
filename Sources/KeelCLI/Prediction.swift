import Foundation
import Keel

/// What a network says of one image.
struct Prediction: Encodable, Equatable {
  struct Guess: Encodable, Equatable {
    var `class`: Int
    var probability: Figure
  }

  var image: String
  /// The most probable class; the lowest of equals.
  var `class`: Int
  var probability: Figure
  /// The most probable classes, in that order: three, or all where there are fewer.
  var top: [Guess]
  /// What the image shows, where that is known.
  var label: Int?

  /// - Parameter outputs: one a class, before softmax.
  init(_ image: String, outputs: [Double], label: Int? = nil) {
    let probabilities = Self.softmax(outputs)
    let order = probabilities.indices.sorted { (probabilities[$1], $0) < (probabilities[$0], $1) }
    top = order.prefix(3).map { Guess(class: $0, probability: Figure(probabilities[$0])) }
    self.image = image
    self.class = top.first?.class ?? 0
    probability = top.first?.probability ?? Figure(nil)
    self.label = label
  }

  /// exp(zᵢ − max z) / Σ exp(zⱼ − max z).
  static func softmax(_ outputs: [Double]) -> [Double] {
    let peak = outputs.max() ?? 0
    let powers = outputs.map { exp($0 - peak) }
    let sum = powers.reduce(0, +)
    return powers.map { $0 / sum }
  }

  static func table(_ predictions: [Prediction]) -> String {
    let areLabelled = predictions.contains { $0.label != nil }
    var table = TextTable([.left, .right, .right, .left] + (areLabelled ? [.right, .left] : []))
    table.rows = [["image", "class", "probability", "top three"] + (areLabelled ? ["label"] : [])]
    table.rows += predictions.map { prediction in
      func percent(_ figure: Figure) -> String { figure.value.map(Text.percent) ?? "–" }
      let top = prediction.top.map { "\($0.class) \(percent($0.probability))" }.joined(separator: ", ")
      let label = prediction.label.map { ["\($0)", $0 == prediction.class ? "" : "wrong"] } ?? []
      return [prediction.image, "\(prediction.class)", percent(prediction.probability), top] + label
    }
    return table.text
  }
}
