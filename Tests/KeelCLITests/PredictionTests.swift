import Keel
import Testing

@testable import KeelCLI

@Suite struct PredictionTests {
  @Test func softmaxOfLargeOutputs() {
    let probabilities = Prediction.softmax([1000, 1001, 900])
    #expect(abs(probabilities[0] - 0.2689414213699951) < 1e-12)
    #expect(abs(probabilities.reduce(0, +) - 1) < 1e-12)
  }

  @Test func topThreeInOrder() {
    let prediction = Prediction("x", outputs: [0, 2, 1, 3, 2])
    #expect(prediction.class == 3)
    #expect(prediction.top.map(\.class) == [3, 1, 4])
    #expect(prediction.probability == prediction.top[0].probability)
    #expect(Prediction("x", outputs: [0, 1]).top.map(\.class) == [1, 0])
  }

  @Test func outputsThatAreNoNumbers() {
    let prediction = Prediction("x", outputs: [.nan, .nan])
    #expect(prediction.top.count == 2)
    #expect(Prediction.table([prediction]).contains("x"))
  }

  @Test func tableMarksWhatIsWrong() {
    let table = Prediction.table([
      Prediction("a", outputs: [9, 0], label: 0), Prediction("b", outputs: [9, 0], label: 1),
    ])
    let lines = table.split(separator: "\n")
    #expect(lines.count == 3)
    #expect(!lines[1].contains("wrong"))
    #expect(lines[2].hasSuffix("wrong"))
    #expect(!Prediction.table([Prediction("a", outputs: [9, 0])]).contains("label"))
  }
}

@Suite struct ImagesTests {
  @Test func pgmGoesFromBlackToWhite() throws {
    let tool = try Tool()
    defer { tool.remove() }
    try tool.write(Array("P2\n2 1\n4\n0 3\n".utf8), to: "a.pgm")
    let images = try Images(reading: tool.path("a.pgm"), sampleShape: [1, 2], scale: 1.0 / 255)
    #expect(images.values.shape == [1, 1, 2])
    #expect(images.values.floats == [0, 0.75])
    #expect(images.scale == 1)
    #expect(try images.inverted().values.floats == [1, 0.25])
  }

  @Test func idxHoldsOneImageOrMany() throws {
    let tool = try Tool()
    defer { tool.remove() }
    try tool.write(idx([2, 1, 2], [0, 51, 102, 255]), to: "many")
    try tool.write(idx([1, 2], [0, 51]), to: "one")
    try tool.write(idx([2], [0, 5]), to: "labels")
    let many = try Images(reading: tool.path("many"), sampleShape: [1, 2], scale: 1.0 / 255)
    #expect(many.names == [tool.path("many") + " 0", tool.path("many") + " 1"])
    #expect(many.sampleShape == [1, 2])
    #expect(try many.inverted().values.floats == [255, 204, 153, 0])
    let one = try Images(reading: tool.path("one"), sampleShape: [1, 2], scale: 1.0 / 255)
    #expect(one.values.shape == [1, 1, 2])
    #expect(throws: FormatError.self) { try Images(reading: tool.path("labels"), sampleShape: [1, 2], scale: 1) }

    let joined = try PredictCommand.joined([many, one, one])
    #expect(joined.count == 1)
    #expect(joined[0].values.bytes == [0, 51, 102, 255, 0, 51, 0, 51])
    #expect(joined[0].names.count == 4)
  }

  @Test func indicesOfADataSet() throws {
    let test = try Digits.load().test
    let images = try Images(test, indices: [3, 0], name: "digits")
    #expect(images.values.shape == [2, 8, 8])
    #expect(images.values.bytes == (try test.rows(3..<4).features.bytes + test.rows(0..<1).features.bytes))
    #expect(images.labels == [Int(test.targets.doubles[3]), Int(test.targets.doubles[0])])
    #expect(throws: CommandError.self) { try Images(test, indices: [360], name: "digits") }
    #expect(throws: CommandError.self) { try Images(test, indices: [-1], name: "digits") }
  }
}
