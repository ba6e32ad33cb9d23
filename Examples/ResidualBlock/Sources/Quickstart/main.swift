import Keel

let digits = try Digits.load()
let network = Sequential {
  Linear(64, 32, bias: false)
  BatchNorm(32)
  ReLU()
  Linear(32, 10)
}
let trainer = try Trainer(
  network, loss: .softmaxCrossEntropy, optimizer: Adam(learningRate: 0.01), on: Device.select())
print(try trainer.model.summary(input: [64]))

let history = try trainer.fit(digits.train, epochs: 5, batchSize: 32, validation: digits.test)
for epoch in history.epochs { print(epoch.number, epoch.trainLoss, epoch.validation?.accuracy ?? 0) }
