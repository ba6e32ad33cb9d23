import Foundation
import Keel

let digits = try Digits.load()
let model = Model(
  Sequential {
    Linear(64, 64, bias: false)
    BatchNorm(64)
    ReLU()
    for _ in 0..<2 { ResidualBlock(64) }
    Linear(64, 10)
  })
print(try model.summary(input: [64]))

let trainer = try Trainer(
  model, loss: .softmaxCrossEntropy, optimizer: Adam(learningRate: 0.01), on: Device.select(nil), seed: 1)
try trainer.fit(digits.train, epochs: 10, batchSize: 32, validation: digits.test) { event in
  if case .epoch(let epoch) = event, let test = epoch.validation?.accuracy {
    print(String(format: "epoch %2d  training loss %.4f  test accuracy %.4f", epoch.number, epoch.trainLoss, test))
  }
  return true
}

let accuracy = try trainer.evaluate(digits.test).accuracy ?? 0
// The blocks took part when their gains left 0.
let gains = model.parameters.filter { $0.path.hasSuffix("gain") }.flatMap { $0.value?.doubles ?? [] }
let largest = gains.map(abs).max() ?? 0
print(String(format: "test accuracy %.4f, largest gain %.4f", accuracy, largest))
guard accuracy >= 0.9, largest > 0.01 else {
  FileHandle.standardError.write(Data("expected a test accuracy of at least 0.9 and gains that moved\n".utf8))
  exit(1)
}
